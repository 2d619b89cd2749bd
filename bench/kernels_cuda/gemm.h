// The ruler of what the tensor cores give: a large matrix product by cuBLAS.
#pragma once

#include <cuda_runtime_api.h>

namespace kvstow::bench {

// TFLOP/s of an 8192^3 product of random bf16 numbers with fp32 sums: the median of 21, measured
// once in a process.
double gemm_tflops(cudaStream_t stream);

}  // namespace kvstow::bench
