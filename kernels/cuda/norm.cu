#include "kernels/cuda/elements_f32.cuh"
#include "kernels/cuda/launch.h"
#include "kernels/cuda/layers.h"
#include "kernels/cuda/thin_product.h"

namespace kvstow::kernels::cuda {
namespace {

constexpr int kMaxThreads = 1024;
constexpr int kOneQuad = 256;  // threads, up to which a thread has one quad

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

// Four elements side by side.
template <class T>
struct alignas(4 * sizeof(T)) Quad {
  T element[4];
};
template <class T>
__device__ __forceinline__ Quad<T>& quad(T* at) {
  return *reinterpret_cast<Quad<T>*>(at);
}
template <class T>
__device__ __forceinline__ const Quad<T>& quad(const T* at) {
  return *reinterpret_cast<const Quad<T>*>(at);
}

// One block per vector; thread t holds its quads t, t + blockDim, ...
template <class T, int kQuads, int kParts>
__global__ void __launch_bounds__(kQuads == 1 ? kOneQuad : kMaxThreads)
    norm_kernel(const NormArgs a, const Added added) {
  __shared__ float sums[2][32];
  ptx::let_next_kernel_start();
  const std::int64_t row = blockIdx.x / a.segments;
  const bool centred = a.kind == NormKind::layer_norm;
  // Calls visit(q, the element that quad q begins with) for the quads that this thread has.
  const auto each = [&](const auto& visit) {
#pragma unroll
    for (int q = 0; q < kQuads; ++q) {
      const int at = static_cast<int>(q * blockDim.x + threadIdx.x) * 4;
      if (at < a.width) visit(q, at);
    }
  };
  Quad<T> weight[kQuads];
  Quad<T> bias[kQuads];
  each([&](int q, int at) {
    weight[q] = quad(static_cast<const T*>(a.weight) + at);
    if (centred) bias[q] = quad(static_cast<const T*>(a.bias) + at);
  });
  ptx::wait_for_earlier_kernels();
  const std::int64_t begin = std::int64_t{blockIdx.x % a.segments} * a.width;
  const std::int64_t first = row * a.x_stride + begin;
  const float* from = (kParts > 0 ? added.residual : static_cast<const float*>(a.x)) + first;
  Quad<float> x[kQuads];
  each([&](int q, int at) {
    x[q] = quad(from + at);
    if constexpr (kParts > 0) {
      Quad<float> part[kParts];
#pragma unroll
      for (int p = 0; p < kParts; ++p) {
        part[p] = quad(added.parts + (std::int64_t{p} * a.rows + row) * a.width + at);
      }
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        float sum = part[0].element[i];
#pragma unroll
        for (int p = 1; p < kParts; ++p) sum += part[p].element[i];
        x[q].element[i] += sum;
      }
    }
  });
  float sum = 0;
  each([&](int q, int at) {
    if constexpr (kParts > 0) quad(added.residual + first + at) = x[q];
#pragma unroll
    for (int i = 0; i < 4; ++i) sum += x[q].element[i];
  });
  const auto width = static_cast<float>(a.width);
  const float mean = centred ? block_sum(sum, sums[0]) / width : 0.0f;
  float square = 0;
  each([&](int q, int) {
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      const float d = x[q].element[i] - mean;
      square = fmaf(d, d, square);
    }
  });
  const float factor = 1.0f / sqrtf(block_sum(square, sums[1]) / width + a.epsilon);
  T* to = static_cast<T*>(a.y) + row * a.y_stride + begin;
  each([&](int q, int at) {
    Quad<T> y;
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      y.element[i] = ptx::from_float<T>(fmaf((x[q].element[i] - mean) * factor,
                                             ptx::to_float(weight[q].element[i]),
                                             centred ? ptx::to_float(bias[q].element[i]) : 0.0f));
    }
    quad(to + at) = y;
  });
}

template <int kParts>
void launch_norm(const NormArgs& a, const Added& added, cudaStream_t stream, Dependent dependent) {
  constexpr const char* kName = "norm";
  require(a.width % 8 == 0 && a.x_stride % 8 == 0 && a.y_stride % 8 == 0, kName,
          "width or a stride is not a multiple of 8 elements");
  require(a.width <= kMaxThreads * 16, kName, "width is more than 16384");
  if (a.rows * a.segments == 0) return;
  const int quads = a.width / 4;
  const int each = quads <= kOneQuad ? 1 : quads <= 2 * kMaxThreads ? 2 : 4;
  const LaunchShape shape{
      .grid = static_cast<unsigned>(a.rows * a.segments),
      .block = static_cast<unsigned>(((quads + each - 1) / each + 31) / 32 * 32),
      .dependent = dependent == Dependent::yes};
  with_any_dtype(a.dtype, kName, [&]<class T>() {
    const auto launch_quads = [&]<int kQuads>() {
      launch(kName, norm_kernel<T, kQuads, kParts>, shape, stream, a, added);
    };
    if (each == 1) return launch_quads.template operator()<1>();
    if (each == 2) return launch_quads.template operator()<2>();
    if constexpr (kParts > 0) {
      require(false, kName, "parts of more than 8192 columns");
    } else {
      launch_quads.template operator()<4>();
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
