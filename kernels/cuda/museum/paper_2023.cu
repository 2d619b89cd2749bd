#include "kernels/cuda/museum/museum.h"
#include "kernels/cuda/museum/museum_launch.h"
#include "kernels/cuda/museum/two_pass.cuh"

namespace kvstow::kernels::cuda::museum {
namespace {

constexpr int kThreads = 128;
constexpr int kWarps = kThreads / 32;

template <int kBlockTokens>
__global__ void __launch_bounds__(kThreads)
    paper_2023_kernel(const DecodeAttentionArgs<BlockTableMap> a) {
  constexpr int kLanes = kBlockTokens < 32 ? 32 / kBlockTokens : 1;  // of a token of K
  constexpr int kKeys = 32 / kLanes;                                 // of one step of a warp
  constexpr int kValues = 32 / kValueLanes;
  extern __shared__ float logits[];
  const int head = static_cast<int>(blockIdx.x);
  const int row = static_cast<int>(blockIdx.y);
  const int warp = static_cast<int>(threadIdx.x) / 32;
  const int lane = static_cast<int>(threadIdx.x) % 32;
  const int length = a.length[row];
  const int blocks = (length + kBlockTokens - 1) / kBlockTokens;
  const std::int32_t* ids = a.map.ids + a.map_row[row] * a.map.stride;
  const std::int64_t slot_stride = a.pool.layout.slot_stride();

  const QueryPart<kLanes> q(
      static_cast<const __half*>(a.q) + row * a.q_stride + std::int64_t{head} * kHeadDim,
      lane % kLanes);
  const __half* keys = part_of(a, 0, head);
  float largest = -INFINITY;
  for (int b = warp; b < blocks; b += kWarps) {
    const std::int64_t first = std::int64_t{ids[b]} * kBlockTokens;
#pragma unroll 1
    for (int t = lane / kLanes; t < kBlockTokens; t += kKeys) {
      const int position = b * kBlockTokens + t;
      const bool valid = position < length;
      const float logit = a.scale * q.dot(keys + (first + t) * slot_stride, lane % kLanes, valid);
      if (valid) {
        if (lane % kLanes == 0) logits[position] = logit;
        largest = fmaxf(largest, logit);
      }
    }
  }
  __syncthreads();
  softmax<kThreads>(logits, length, largest);

  const __half* values = part_of(a, 1, head);
  ValueSum sum;
  for (int b = warp; b < blocks; b += kWarps) {
    const std::int64_t first = std::int64_t{ids[b]} * kBlockTokens;
#pragma unroll 8
    for (int t = lane / kValueLanes; t < kBlockTokens; t += kValues) {
      const int position = b * kBlockTokens + t;
      if (position < length) {
        sum.add(values + (first + t) * slot_stride, lane % kValueLanes, logits[position]);
      }
    }
  }
  sum.write<kThreads>(static_cast<__half*>(a.out) + row * a.out_stride +
                      std::int64_t{head} * kHeadDim);
}

template <int kBlockTokens>
void launch_blocks(const DecodeAttentionArgs<BlockTableMap>& a, int max_length,
                   cudaStream_t stream) {
  if (a.map.block_tokens == kBlockTokens) {
    launch_rows("paper_2023", paper_2023_kernel<kBlockTokens>, kThreads, a, max_length, stream);
  } else if constexpr (kBlockTokens < 256) {
    launch_blocks<2 * kBlockTokens>(a, max_length, stream);
  } else {
    throw std::invalid_argument("paper_2023: no body for blocks of " +
                                std::to_string(a.map.block_tokens) + " tokens");
  }
}

}  // namespace

void paper_2023_decode(const DecodeAttentionArgs<BlockTableMap>& a, int max_length,
                       cudaStream_t stream) {
  launch_blocks<1>(a, max_length, stream);
}

}  // namespace kvstow::kernels::cuda::museum
