#include "kernels/cuda/elements_f32.cuh"
#include "kernels/cuda/launch.h"
#include "kernels/cuda/layers.h"
#include "kernels/cuda/thin_product.h"

namespace kvstow::kernels::cuda {
namespace {

constexpr int kMaxThreads = 1024;

// The same sum in every thread: a tree in each warp, then the warps from left to right.
__device__ float block_sum(float x, float* parts) {
#pragma unroll
  for (int offset = 16; offset > 0; offset /= 2) x += __shfl_xor_sync(0xffffffffu, x, offset);
  if (threadIdx.x % 32 == 0) parts[threadIdx.x / 32] = x;
  __syncthreads();
  float sum = 0;
  for (unsigned w = 0; w < blockDim.x / 32; ++w) sum += parts[w];
  return sum;
}

// Parts of a product, [kParts, rows, width]: the residual takes them up and stands for x.
struct Added {
  float* residual = nullptr;
  const float* parts = nullptr;
};

// One block per vector; thread t holds its 16-byte vectors t, t + blockDim, ...
template <class T, int kVectors, int kParts>
__global__ void __launch_bounds__(kMaxThreads) norm_kernel(const NormArgs a, const Added added) {
  __shared__ float sums[2][32];
  ptx::let_next_kernel_start();
  const std::int64_t row = blockIdx.x / a.segments;
  const bool centred = a.kind == NormKind::layer_norm;
  Raw8<T> weight[kVectors];
  Raw8<T> bias[kVectors];
#pragma unroll
  for (int v = 0; v < kVectors; ++v) {
    const int at = static_cast<int>(v * blockDim.x + threadIdx.x) * 8;
    if (at >= a.width) continue;
    weight[v].load(static_cast<const T*>(a.weight) + at);
    if (centred) bias[v].load(static_cast<const T*>(a.bias) + at);
  }
  ptx::wait_for_earlier_kernels();
  const std::int64_t begin = std::int64_t{blockIdx.x % a.segments} * a.width;
  const std::int64_t first = row * a.x_stride + begin;
  const float* from = (kParts > 0 ? added.residual : static_cast<const float*>(a.x)) + first;
  float x[kVectors][8] = {};
  float sum = 0;
#pragma unroll
  for (int v = 0; v < kVectors; ++v) {
    const int at = static_cast<int>(v * blockDim.x + threadIdx.x) * 8;
    if (at >= a.width) continue;
    load8(from + at, x[v]);
    if constexpr (kParts > 0) {
      float part[kParts][8];
#pragma unroll
      for (int p = 0; p < kParts; ++p) {
        load8(added.parts + (std::int64_t{p} * a.rows + row) * a.width + at, part[p]);
      }
#pragma unroll
      for (int p = 1; p < kParts; ++p) {
#pragma unroll
        for (int i = 0; i < 8; ++i) part[0][i] += part[p][i];
      }
#pragma unroll
      for (int i = 0; i < 8; ++i) x[v][i] += part[0][i];
      store8(added.residual + first + at, x[v]);
    }
#pragma unroll
    for (int i = 0; i < 8; ++i) sum += x[v][i];
  }
  const auto width = static_cast<float>(a.width);
  const float mean = centred ? block_sum(sum, sums[0]) / width : 0.0f;
  float square = 0;
#pragma unroll
  for (int v = 0; v < kVectors; ++v) {
    if (static_cast<int>(v * blockDim.x + threadIdx.x) * 8 >= a.width) continue;
#pragma unroll
    for (int i = 0; i < 8; ++i) {
      const float d = x[v][i] - mean;
      square = fmaf(d, d, square);
    }
  }
  const float factor = 1.0f / sqrtf(block_sum(square, sums[1]) / width + a.epsilon);
  T* to = static_cast<T*>(a.y) + row * a.y_stride + begin;
#pragma unroll
  for (int v = 0; v < kVectors; ++v) {
    const int at = static_cast<int>(v * blockDim.x + threadIdx.x) * 8;
    if (at >= a.width) continue;
    float w[8];
    float b[8] = {};
    weight[v].to(w);
    if (centred) bias[v].to(b);
#pragma unroll
    for (int i = 0; i < 8; ++i) x[v][i] = fmaf((x[v][i] - mean) * factor, w[i], b[i]);
    store8(to + at, x[v]);
  }
}

template <int kParts>
void launch_norm(const NormArgs& a, const Added& added, cudaStream_t stream, Dependent dependent) {
  constexpr const char* kName = "norm";
  require(a.width % 8 == 0 && a.x_stride % 8 == 0 && a.y_stride % 8 == 0, kName,
          "width or a stride is not a multiple of 8 elements");
  require(a.width <= 2 * kMaxThreads * 8, kName, "width is more than 16384");
  if (a.rows * a.segments == 0) return;
  const int vectors = a.width / 8;
  const bool two = vectors > kMaxThreads;
  const int threads = two ? kMaxThreads : (vectors + 31) / 32 * 32;
  const LaunchShape shape{.grid = static_cast<unsigned>(a.rows * a.segments),
                          .block = static_cast<unsigned>(threads),
                          .dependent = dependent == Dependent::yes};
  with_any_dtype(a.dtype, kName, [&]<class T>() {
    if constexpr (kParts > 0) {
      require(!two, kName, "parts of more than 8192 columns");
      launch(kName, norm_kernel<T, 1, kParts>, shape, stream, a, added);
    } else {
      launch(kName, two ? norm_kernel<T, 2, 0> : norm_kernel<T, 1, 0>, shape, stream, a, added);
    }
  });
}

}  // namespace

void join_norm(const NormArgs& a, const float* parts, float* residual, cudaStream_t stream,
               Dependent dependent) {
  require(a.segments == 1, "norm", "parts of several segments");
  launch_norm<kThinParts>(a, {.residual = residual, .parts = parts}, stream, dependent);
}

void norm(const NormArgs& a, cudaStream_t stream, Dependent dependent) {
  launch_norm<0>(a, {}, stream, dependent);
}

}  // namespace kvstow::kernels::cuda
