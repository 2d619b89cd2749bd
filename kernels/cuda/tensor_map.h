// Descriptions of arrays for the copy engine (TMA), made on the host at each launch.
#pragma once

#include <cuda.h>
#include <cuda_runtime_api.h>

#include <array>
#include <cstdint>

#include "kernels/cuda/cuda_check.h"
#include "kernels/kernels.h"

namespace kvstow::kernels::cuda {

// An array of 16-bit elements, dimension 0 contiguous, read in boxes of 64 elements of it (which
// land in shared memory as rows of 128 bytes, swizzled as kernels/cuda/wgmma.cuh says) by `box` of
// the others. What lies beyond an extent reads as zero.
struct TensorMapShape {
  std::array<std::uint64_t, 4> extent;
  std::array<std::uint64_t, 3> stride_bytes;  // of dimensions 1-3, multiples of 16
  std::array<std::uint32_t, 3> box;           // of dimensions 1-3
};

inline CUtensorMap make_tensor_map(const void* data, DType dtype, const TensorMapShape& shape) {
  using Encode = decltype(&cuTensorMapEncodeTiled);
  // The driver's own function, so that nothing needs libcuda at link time.
  static const Encode encode = [] {
    void* function = nullptr;
    cudaDriverEntryPointQueryResult found{};
    KVSTOW_CUDA(cudaGetDriverEntryPointByVersion("cuTensorMapEncodeTiled", &function, 12000,
                                                 cudaEnableDefault, &found));
    if (found != cudaDriverEntryPointSuccess) {
      check(cudaErrorNotSupported, "cuTensorMapEncodeTiled", "the driver has none");
    }
    return reinterpret_cast<Encode>(function);
  }();
  const std::array<std::uint32_t, 4> box{64, shape.box[0], shape.box[1], shape.box[2]};
  const std::array<std::uint32_t, 4> step{1, 1, 1, 1};
  CUtensorMap map;
  const CUresult status = encode(
      &map,
      dtype == DType::f16 ? CU_TENSOR_MAP_DATA_TYPE_FLOAT16 : CU_TENSOR_MAP_DATA_TYPE_BFLOAT16, 4,
      const_cast<void*>(data), shape.extent.data(), shape.stride_bytes.data(), box.data(),
      step.data(), CU_TENSOR_MAP_INTERLEAVE_NONE, CU_TENSOR_MAP_SWIZZLE_128B,
      CU_TENSOR_MAP_L2_PROMOTION_L2_256B, CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE);
  if (status != CUDA_SUCCESS) {
    check(cudaErrorInvalidValue, "cuTensorMapEncodeTiled",
          "extents " + std::to_string(shape.extent[0]) + "x" + std::to_string(shape.extent[1]) +
              "x" + std::to_string(shape.extent[2]) + "x" + std::to_string(shape.extent[3]));
  }
  return map;
}

}  // namespace kvstow::kernels::cuda
