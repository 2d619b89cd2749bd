// One block of threads and the logits of one row: what every way of choosing from them needs.
#pragma once

#include <cstdint>

#include "kernels/cuda/elements.cuh"

namespace kvstow::kernels::cuda::sampling {

inline constexpr int kThreads = 1024;  // of a block that draws
inline constexpr int kMostWarps = 32;
inline constexpr int kMostTokens = 262144;
inline constexpr int kVectors = 4;             // of 8 neighbouring tokens, in flight in each lane
inline constexpr int kChunk = kVectors * 256;  // neighbouring tokens, a warp's work at a time
inline constexpr int kMaxChunks = kMostTokens / kChunk;
inline constexpr int kPieceVectors = 2;  // likewise, where a warp also holds its next ones
inline constexpr int kPiece = kPieceVectors * 256;
inline constexpr int kMaxPieces = kMostTokens / kPiece;
inline constexpr int kBins = 2048;
inline constexpr float kLog2E = 1.4426950408889634f;

struct Shared {
  std::uint64_t warps[kMostWarps];
  std::uint64_t found;  // what a search hands to everyone
  std::uint64_t before;
  // In several passes.
  std::uint64_t chunks[kMaxChunks];
  std::uint32_t bins[3][kBins];  // sums of the weights' bits 0-13, 14-27 and 28-31: 32-bit atomics
  // In one.
  std::uint32_t masses[kMaxPieces];
  float tops[kMaxPieces];  // their largest logits
  float warp_tops[kMostWarps];
  float warp_sums[kMostWarps];
};

// floor(fraction * whole), the fraction in 2^-64.
__device__ inline std::uint64_t part_of(std::uint64_t fraction, std::uint64_t whole) {
  return __umul64hi(fraction, whole);
}

// Order-preserving bits of a finite float; -0 and 0 are one.
__device__ inline std::uint32_t key_of(float x) {
  const std::uint32_t bits = __float_as_uint(x + 0.0f);
  return bits & 0x80000000u ? ~bits : bits | 0x80000000u;
}
__device__ inline float logit_of(std::uint32_t key) {
  return __uint_as_float(key & 0x80000000u ? key & 0x7fffffffu : ~key);
}

__device__ inline std::uint64_t warp_inclusive(std::uint64_t x) {
#pragma unroll
  for (int offset = 1; offset < 32; offset *= 2) {
    const std::uint64_t y = __shfl_up_sync(0xffffffffu, x, offset);
    if (threadIdx.x % 32 >= static_cast<unsigned>(offset)) x += y;
  }
  return x;
}

__device__ inline std::uint64_t warp_sum(std::uint64_t x) {
#pragma unroll
  for (int offset = 16; offset > 0; offset /= 2) x += __shfl_xor_sync(0xffffffffu, x, offset);
  return x;
}

template <class T, int kBlockThreads>
class SamplingBlock {
 public:
  static constexpr int kWarps = kBlockThreads / 32;

  // The block's row of `logits`.
  __device__ SamplingBlock(const void* logits, std::int64_t stride, int vocab, Shared& s)
      : s_(s), logits_(static_cast<const T*>(logits) + blockIdx.x * stride), vocab_(vocab) {}

  __device__ float logit(int token) const { return to_float(logits_[token]); }

 protected:
  __device__ static int lane() { return static_cast<int>(threadIdx.x % 32); }
  __device__ static int warp() { return static_cast<int>(threadIdx.x / 32); }
  __device__ static float to_float(float x) { return x; }
  template <class E>
  __device__ static float to_float(E x) {
    return ptx::to_float(x);
  }

  // Over one value of each warp.
  __device__ std::uint64_t sum_of_warps(std::uint64_t x) {
    if (lane() == 0) s_.warps[warp()] = x;
    __syncthreads();
    std::uint64_t all = 0;
    for (int w = 0; w < kWarps; ++w) all += s_.warps[w];
    __syncthreads();
    return all;
  }

  __device__ std::uint64_t block_max(std::uint64_t x) {
#pragma unroll
    for (int offset = 16; offset > 0; offset /= 2) {
      x = ::max(x, __shfl_xor_sync(0xffffffffu, x, offset));
    }
    if (lane() == 0) s_.warps[warp()] = x;
    __syncthreads();
    for (int w = 0; w < kWarps; ++w) x = ::max(x, s_.warps[w]);
    __syncthreads();
    return x;
  }

  // Over the threads' values in order: the thread at which the running sum reaches `target` leaves
  // its `name` in found and the sum before it in before.
  __device__ void search(std::uint64_t value, std::uint64_t target, int name) {
    const std::uint64_t inclusive = warp_inclusive(value);
    if (lane() == 31) s_.warps[warp()] = inclusive;
    __syncthreads();
    std::uint64_t before = inclusive - value;
    for (int w = 0; w < warp(); ++w) before += s_.warps[w];
    if (before < target && target <= before + value) {
      s_.found = static_cast<std::uint64_t>(name);
      s_.before = before;
    }
    __syncthreads();
  }

  Shared& s_;
  const T* logits_;
  int vocab_;
};

}  // namespace kvstow::kernels::cuda::sampling
