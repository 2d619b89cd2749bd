#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include "core/exec/cuda/step_kernels.h"
#include "kernels/cuda/elements_f32.cuh"
#include "kernels/cuda/launch.h"

namespace kvstow {
namespace {

using kernels::cuda::launch;
using kernels::cuda::with_any_dtype;

constexpr int kThreads = 256;

unsigned blocks_for(std::int64_t work) {
  return static_cast<unsigned>((work + kThreads - 1) / kThreads);
}

// 16 bytes a thread.
__global__ void gather_rows_kernel(const uint4* x, const std::int32_t* row, int rows, int vectors,
                                   uint4* y) {
  const std::int64_t i = std::int64_t{blockIdx.x} * kThreads + threadIdx.x;
  if (i >= std::int64_t{rows} * vectors) return;
  y[i] = x[std::int64_t{row[i / vectors]} * vectors + i % vectors];
}

__device__ std::uint64_t mixed(std::uint64_t x) {
  x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9ULL;
  x = (x ^ (x >> 27)) * 0x94d049bb133111ebULL;
  return x ^ (x >> 31);
}

template <class T>
__global__ void uniform_kernel(T* to, std::int64_t count, std::uint64_t key, double mean,
                               double scale) {
  const std::int64_t step = std::int64_t{gridDim.x} * kThreads;
  for (std::int64_t i = std::int64_t{blockIdx.x} * kThreads + threadIdx.x; i < count; i += step) {
    const std::uint64_t bits =
        mixed(key + 0x9e3779b97f4a7c15ULL * static_cast<std::uint64_t>(i + 1));
    const double uniform = static_cast<double>(bits >> 11) * 0x1.0p-53;
    to[i] = static_cast<T>(static_cast<float>(mean + scale * (2 * uniform - 1)));
  }
}

template <class T>
__global__ void convert_kernel(const float* from, std::int64_t count, T* to) {
  const std::int64_t step = std::int64_t{gridDim.x} * kThreads;
  for (std::int64_t i = std::int64_t{blockIdx.x} * kThreads + threadIdx.x; i < count; i += step) {
    to[i] = static_cast<T>(from[i]);
  }
}

__global__ void spin_kernel(std::uint64_t nanoseconds) {
  std::uint64_t begin = 0;
  std::uint64_t now = 0;
  asm volatile("mov.u64 %0, %%globaltimer;" : "=l"(begin));
  do {
    asm volatile("mov.u64 %0, %%globaltimer;" : "=l"(now));
  } while (now - begin < nanoseconds);
}

}  // namespace

bool has_code_for_device() {
  cudaFuncAttributes attributes{};
  const cudaError_t status = cudaFuncGetAttributes(&attributes, spin_kernel);
  if (status == cudaErrorNoKernelImageForDevice || status == cudaErrorInvalidDeviceFunction) {
    cudaGetLastError();  // not sticky
    return false;
  }
  kernels::cuda::check(status, "cudaFuncGetAttributes", "spin");
  return true;
}

void spin(double seconds, cudaStream_t stream) {
  launch("spin", spin_kernel, {.grid = 1, .block = 1}, stream,
         static_cast<std::uint64_t>(seconds * 1e9));
}

void gather_rows(const void* x, const std::int32_t* row, int rows, int width, kernels::DType dtype,
                 void* y, cudaStream_t stream) {
  if (rows == 0) return;
  const int vectors = width * static_cast<int>(kernels::size_of(dtype)) / 16;
  launch("gather_rows", gather_rows_kernel,
         {.grid = blocks_for(std::int64_t{rows} * vectors), .block = kThreads}, stream,
         static_cast<const uint4*>(x), row, rows, vectors, static_cast<uint4*>(y));
}

void fill_uniform_weights(void* to, std::int64_t count, kernels::DType dtype, std::uint64_t key,
                          double mean, double scale, cudaStream_t stream) {
  with_any_dtype(dtype, "fill_uniform_weights", [&]<class T>() {
    launch("fill_uniform_weights", uniform_kernel<T>, {.grid = 2048, .block = kThreads}, stream,
           static_cast<T*>(to), count, key, mean, scale);
  });
}

void convert_weights(const float* from, std::int64_t count, kernels::DType dtype, void* to,
                     cudaStream_t stream) {
  with_any_dtype(dtype, "convert_weights", [&]<class T>() {
    launch("convert_weights", convert_kernel<T>, {.grid = 2048, .block = kThreads}, stream, from,
           count, static_cast<T*>(to));
  });
}

}  // namespace kvstow
