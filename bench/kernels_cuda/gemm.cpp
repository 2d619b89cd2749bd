#include "bench/kernels_cuda/gemm.h"

#include <cublas_v2.h>

#include <stdexcept>
#include <string>

#include "bench/kernels_cuda/chain.h"
#include "tests/cuda/device_case.h"

namespace kvstow::bench {
namespace {

using kernels::cuda::testing::DeviceArray;

void check(cublasStatus_t status, const char* call) {
  if (status != CUBLAS_STATUS_SUCCESS) {
    throw std::runtime_error(std::string(call) + ": " + cublasGetStatusString(status));
  }
}

double measure(cudaStream_t stream) {
  constexpr int kN = 8192;
  constexpr std::size_t kElements = std::size_t{kN} * kN;
  DeviceArray<std::uint16_t> a(kElements), b(kElements), c(kElements);
  for (auto* x : {&a, &b}) {
    kernels::cuda::testing::fill_uniform(x->get(), kElements, kernels::DType::bf16, 1,
                                         x == &a ? 1 : 2, stream);
  }
  cublasHandle_t handle = nullptr;
  check(cublasCreate(&handle), "cublasCreate");
  DeviceArray<unsigned char> workspace(32 << 20);
  check(cublasSetStream(handle, stream), "cublasSetStream");
  check(cublasSetWorkspace(handle, workspace.get(), workspace.size()), "cublasSetWorkspace");
  const float one = 1;
  const float zero = 0;
  const ChainTime time = time_chain(1, stream, [&](int, cudaStream_t) {
    check(cublasGemmEx(handle, CUBLAS_OP_T, CUBLAS_OP_N, kN, kN, kN, &one, a.get(), CUDA_R_16BF, kN,
                       b.get(), CUDA_R_16BF, kN, &zero, c.get(), CUDA_R_16BF, kN,
                       CUBLAS_COMPUTE_32F, CUBLAS_GEMM_DEFAULT),
          "cublasGemmEx");
  });
  check(cublasDestroy(handle), "cublasDestroy");
  return 2.0 * kN * kN * kN / time.median_us / 1e6;
}

}  // namespace

double gemm_tflops(cudaStream_t stream) {
  static const double rate = measure(stream);
  return rate;
}

}  // namespace kvstow::bench
