// A CUDA error names the call, the file and line, and the shape it happened at.
#pragma once

#include <cuda_runtime_api.h>

#include <source_location>
#include <stdexcept>
#include <string>

namespace kvstow::kernels::cuda {

class CudaError : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

inline void check(cudaError_t status, const char* call, const std::string& shape = "",
                  std::source_location where = std::source_location::current()) {
  if (status == cudaSuccess) [[likely]]
    return;
  throw CudaError(std::string(where.file_name()) + ":" + std::to_string(where.line()) + ": " +
                  call + (shape.empty() ? "" : " [" + shape + "]") + ": " +
                  cudaGetErrorName(status) + ": " + cudaGetErrorString(status));
}

}  // namespace kvstow::kernels::cuda

#define KVSTOW_CUDA(call) ::kvstow::kernels::cuda::check((call), #call)
// For launches, where the shape is what one needs to know.
#define KVSTOW_CUDA_SHAPE(call, shape) ::kvstow::kernels::cuda::check((call), #call, (shape))
