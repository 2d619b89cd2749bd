#include "kernels/cuda/attention_f32.h"
#include "kernels/cuda/elements.cuh"
#include "kernels/cuda/launch.h"

namespace kvstow::kernels::cuda {
namespace {

constexpr int kThreads = 256;  // tokens of a chunk, and at least head_dim

// What a query row reads.
struct Reach {
  std::int64_t map_row;
  int length;
};

template <class Map>
__device__ Reach reach(const PrefillAttentionArgs<Map>& a, int row) {
  int s = 0;
  while (a.row_begin[s + 1] <= row) ++s;
  return {a.map_row[s], a.first[s] + row - a.row_begin[s] + 1};
}

template <class Map>
__device__ Reach reach(const DecodeAttentionArgs<Map>& a, int row) {
  return {a.map_row[row], a.length[row]};
}

// Sum or maximum over the block, the same in every thread. `parts`: kThreads floats.
template <class Fold>
__device__ float fold(float x, float* parts, const Fold& join) {
  parts[threadIdx.x] = x;
  __syncthreads();
  for (unsigned width = kThreads / 2; width > 0; width /= 2) {
    if (threadIdx.x < width) {
      parts[threadIdx.x] = join(parts[threadIdx.x], parts[threadIdx.x + width]);
    }
    __syncthreads();
  }
  x = parts[0];
  __syncthreads();
  return x;
}

// Thread t has token t of each chunk of the scores, then element t of the output.
template <class Args>
__global__ void __launch_bounds__(kThreads) attention_f32_kernel(const Args a) {
  __shared__ float q[kThreads], weight[kThreads], parts[kThreads];
  __shared__ std::int64_t offset[kThreads];
  const KvLayout& layout = a.pool.layout;
  const int dim = layout.head_dim;
  const int row = static_cast<int>(blockIdx.x);
  const int head = static_cast<int>(blockIdx.y);
  const int t = static_cast<int>(threadIdx.x);
  const Reach r = reach(a, row);
  const std::int64_t kv_head = head / (a.heads / layout.kv_heads);
  const auto* pool = static_cast<const float*>(a.pool.data) + kv_head * dim;
  const float* k = pool + layout.part_offset(a.layer, 0);
  const float* v = pool + layout.part_offset(a.layer, 1);
  if (t < dim) q[t] = static_cast<const float*>(a.q)[row * a.q_stride + head * dim + t] * a.scale;
  float best = -INFINITY;
  float sum = 0;
  float out = 0;
  for (int begin = 0; begin < r.length; begin += kThreads) {
    __syncthreads();
    const int tokens = ::min(kThreads, r.length - begin);
    float score = -INFINITY;
    if (t < tokens) {
      offset[t] = a.map.slot(r.map_row, begin + t) * layout.slot_stride();
      score = 0;
      for (int d = 0; d < dim; ++d) score = fmaf(q[d], k[offset[t] + d], score);
    }
    const float top = fmaxf(best, fold(score, parts, [](float x, float y) { return fmaxf(x, y); }));
    weight[t] = t < tokens ? expf(score - top) : 0.0f;
    const float earlier = expf(best - top);
    sum = sum * earlier + fold(weight[t], parts, [](float x, float y) { return x + y; });
    out *= earlier;
    for (int i = 0; t < dim && i < tokens; ++i) out = fmaf(weight[i], v[offset[i] + t], out);
    best = top;
  }
  if (t < dim)
    static_cast<float*>(a.out)[row * a.out_stride + head * dim + t] = sum > 0 ? out / sum : 0;
}

template <class Args>
void run(const Args& a, int rows, cudaStream_t stream) {
  constexpr const char* kName = "attention_f32";
  require(a.dtype == DType::f32 && a.pool.layout.dtype == DType::f32, kName, "dtype is not f32");
  require(a.pool.layout.head_dim <= kThreads, kName, "head_dim is more than 256");
  require(a.heads % a.pool.layout.kv_heads == 0, kName, "heads is not a multiple of kv_heads");
  if (rows == 0) return;
  launch(kName, attention_f32_kernel<Args>,
         {.grid = dim3(static_cast<unsigned>(rows), static_cast<unsigned>(a.heads)),
          .block = kThreads},
         stream, a);
}

}  // namespace

template <class Map>
void attention_f32(const PrefillAttentionArgs<Map>& a, int rows, cudaStream_t stream) {
  run(a, rows, stream);
}

template <class Map>
void attention_f32(const DecodeAttentionArgs<Map>& a, cudaStream_t stream) {
  run(a, a.rows, stream);
}

template void attention_f32(const PrefillAttentionArgs<AffineMap>&, int, cudaStream_t);
template void attention_f32(const PrefillAttentionArgs<BlockTableMap>&, int, cudaStream_t);
template void attention_f32(const DecodeAttentionArgs<AffineMap>&, cudaStream_t);
template void attention_f32(const DecodeAttentionArgs<BlockTableMap>&, cudaStream_t);

}  // namespace kvstow::kernels::cuda
