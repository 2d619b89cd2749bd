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
  constexpr int kAtOnce = 32 / kLanes;  // tokens
  constexpr int kDepth = kBlockTokens < 2 * kAtOnce ? 1
                         : kBlockTokens < 16        ? kBlockTokens / kAtOnce
                                                    : 8;
  extern __shared__ float logits[];
  const int head = static_cast<int>(blockIdx.x);
  const int row = static_cast<int>(blockIdx.y);
  const int warp = static_cast<int>(threadIdx.x) / 32;
  const int group = static_cast<int>(threadIdx.x) % 32 / kLanes;
  const int length = a.length[row];
  const int blocks = (length + kBlockTokens - 1) / kBlockTokens;
  const std::int32_t* ids = a.map.ids + a.map_row[row] * a.map.stride;
  const std::int64_t slot_stride = a.pool.layout.slot_stride();

  const Query q(a, row, head);
  const __half* keys = part_of(a, 0, head);
  float largest = -INFINITY;
  for (int b = warp; b < blocks; b += kWarps) {
    const __half* block = keys + std::int64_t{ids[b]} * kBlockTokens * slot_stride;
    const int tokens = ::min(kBlockTokens, length - b * kBlockTokens);
    for (int first = 0; first < tokens; first += kDepth * kAtOnce) {
      float logit[kDepth];
      q.dot(logit, [&](int i) {
        const int t = first + i * kAtOnce + group;
        return t < tokens ? block + t * slot_stride : nullptr;
      });
#pragma unroll
      for (int i = 0; i < kDepth; ++i) {
        const int t = first + i * kAtOnce + group;
        if (t >= tokens) continue;
        if (threadIdx.x % kLanes == 0) logits[b * kBlockTokens + t] = logit[i];
        largest = fmaxf(largest, logit[i]);
      }
    }
  }
  __syncthreads();
  softmax<kThreads>(logits, length, largest);

  const __half* values = part_of(a, 1, head);
  ValueSum sum;
  for (int b = warp; b < blocks; b += kWarps) {
    const __half* block = values + std::int64_t{ids[b]} * kBlockTokens * slot_stride;
    const int tokens = ::min(kBlockTokens, length - b * kBlockTokens);
#pragma unroll kDepth
    for (int t = group; t < tokens; t += kAtOnce) {
      sum.add(block + t * slot_stride, logits[b * kBlockTokens + t]);
    }
  }
  sum.write<kThreads>(a, row, head);
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
