#include "kernels/cuda/elements_f32.cuh"
#include "kernels/cuda/launch.h"
#include "kernels/cuda/layers.h"

namespace kvstow::kernels::cuda {
namespace {

constexpr int kThreads = 256;

// Thread -> 8 elements of one row.
struct Place {
  std::int64_t row;
  int at;
  bool inside;
};
__device__ Place place(int rows, int width) {
  const std::int64_t i = blockIdx.x * std::int64_t{kThreads} + threadIdx.x;
  const std::int64_t row = i / (width / 8);
  return {row, static_cast<int>(i % (width / 8)) * 8, row < rows};
}

LaunchShape shape_of(int rows, int width, Dependent dependent) {
  const std::int64_t vectors = std::int64_t{rows} * (width / 8);
  return {.grid = static_cast<unsigned>((vectors + kThreads - 1) / kThreads),
          .block = kThreads,
          .dependent = dependent == Dependent::yes};
}

template <class T>
__global__ void __launch_bounds__(kThreads) activation_kernel(const ActivationArgs a) {
  ptx::let_next_kernel_start();
  ptx::wait_for_earlier_kernels();
  const Place p = place(a.rows, a.width);
  if (!p.inside) return;
  const T* from = static_cast<const T*>(a.x) + p.row * a.x_stride + p.at;
  float x[8];
  load8(from, x);
  if (a.kind == ActivationKind::relu) {
#pragma unroll
    for (int i = 0; i < 8; ++i) x[i] = fmaxf(x[i], 0.0f);
  } else {
    float up[8];
    load8(from + a.width, up);
#pragma unroll
    for (int i = 0; i < 8; ++i) x[i] = x[i] / (1.0f + __expf(-x[i])) * up[i];
  }
  store8(static_cast<T*>(a.y) + p.row * a.y_stride + p.at, x);
}

template <class T>
__global__ void __launch_bounds__(kThreads)
    embedding_kernel(const EmbeddingArgs a, const StepBegin begin) {
  if (begin.at && blockIdx.x == 0 && threadIdx.x == 0) *begin.at = ptx::nanoseconds();
  ptx::let_next_kernel_start();
  ptx::wait_for_earlier_kernels();
  const Place p = place(a.rows, a.width);
  if (!p.inside) return;
  std::int32_t token = a.token[p.row];
  if (token < 0) token = ::max(begin.drawn[~token], 0);  // none where a logit was not finite
  float x[8];
  load8(static_cast<const T*>(a.table) + std::int64_t{token} * a.width + p.at, x);
  if (a.position_table) {
    float y[8];
    load8(
        static_cast<const T*>(a.position_table) + std::int64_t{a.position[p.row]} * a.width + p.at,
        y);
#pragma unroll
    for (int i = 0; i < 8; ++i) x[i] += y[i];
  }
  store8(static_cast<float*>(a.y) + p.row * a.y_stride + p.at, x);
}

}  // namespace

void activation(const ActivationArgs& a, cudaStream_t stream, Dependent dependent) {
  require(a.width % 8 == 0 && a.x_stride % 8 == 0 && a.y_stride % 8 == 0, "activation",
          "width or a stride is not a multiple of 8 elements");
  if (a.rows == 0) return;
  with_any_dtype(a.dtype, "activation", [&]<class T>() {
    launch("activation", activation_kernel<T>, shape_of(a.rows, a.width, dependent), stream, a);
  });
}

void embedding(const EmbeddingArgs& a, const StepBegin& begin, cudaStream_t stream,
               Dependent dependent) {
  require(a.width % 8 == 0 && a.y_stride % 8 == 0, "embedding",
          "width or stride is not a multiple of 8 elements");
  if (a.rows == 0) return;
  with_any_dtype(a.dtype, "embedding", [&]<class T>() {
    launch("embedding", embedding_kernel<T>, shape_of(a.rows, a.width, dependent), stream, a,
           begin);
  });
}

}  // namespace kvstow::kernels::cuda
