// What the kernels of 2023 have in common: dot products and sums of values by 16 lanes for each
// token, which together read its 256 consecutive bytes, and a softmax in shared memory between.
#pragma once

#include <cuda_fp16.h>

#include <cmath>
#include <cstdint>

#include "kernels/cuda/elements.cuh"

namespace kvstow::kernels::cuda::museum {

constexpr int kHeadDim = 128;
constexpr int kLanes = kHeadDim / 8;  // of a token: 16 bytes each

// Where one layer's K or V of a query head's K/V head begins.
template <class Args>
__device__ const __half* part_of(const Args& a, int part, int head) {
  const KvLayout& layout = a.pool.layout;
  const int kv_head = head / (a.heads / layout.kv_heads);
  return static_cast<const __half*>(a.pool.data) + layout.part_offset(a.layer, part) +
         std::int64_t{kv_head} * kHeadDim;
}

// A lane's eighth of q, with the scale.
class Query {
 public:
  template <class Args>
  __device__ Query(const Args& a, int row, int head) : lane_(threadIdx.x % kLanes) {
    load8(static_cast<const __half*>(a.q) + row * a.q_stride + head * kHeadDim + lane_ * 8, q_);
#pragma unroll
    for (float& x : q_) x *= a.scale;
  }

  // The logits of kDepth tokens, in each of the 16 lanes; key(i) is the K of one, or null. All
  // loads are in flight together.
  template <int kDepth, class Key>
  __device__ void dot(float (&logit)[kDepth], const Key& key) const {
    uint4 raw[kDepth];
#pragma unroll
    for (int i = 0; i < kDepth; ++i) {
      const __half* k = key(i);
      raw[i] = k ? reinterpret_cast<const uint4*>(k)[lane_] : uint4{};
    }
#pragma unroll
    for (int i = 0; i < kDepth; ++i) {
      float k[8];
      load8(reinterpret_cast<const __half*>(&raw[i]), k);
      float sum = 0;
#pragma unroll
      for (int d = 0; d < 8; ++d) sum = fmaf(q_[d], k[d], sum);
#pragma unroll
      for (int offset = kLanes / 2; offset > 0; offset /= 2) {
        sum += __shfl_xor_sync(0xffffffffu, sum, offset);
      }
      logit[i] = sum;
    }
  }

 private:
  unsigned lane_;
  float q_[8];
};

// The sum or the maximum over the block, in every thread.
template <int kThreads, class Fold>
__device__ float over_block(float x, const Fold& fold) {
  __shared__ float parts[kThreads / 32];
#pragma unroll
  for (int offset = 16; offset > 0; offset /= 2) {
    x = fold(x, __shfl_xor_sync(0xffffffffu, x, offset));
  }
  __syncthreads();  // parts may still be read from the fold before
  if (threadIdx.x % 32 == 0) parts[threadIdx.x / 32] = x;
  __syncthreads();
  x = parts[0];
#pragma unroll
  for (int w = 1; w < kThreads / 32; ++w) x = fold(x, parts[w]);
  return x;
}

// logits[0, length) become probabilities. largest: of the logits that this thread has seen.
template <int kThreads>
__device__ void softmax(float* logits, int length, float largest) {
  largest = over_block<kThreads>(largest, [](float a, float b) { return fmaxf(a, b); });
  float sum = 0;
  for (int i = static_cast<int>(threadIdx.x); i < length; i += kThreads) {
    const float p = __expf(logits[i] - largest);
    logits[i] = p;
    sum += p;
  }
  sum = over_block<kThreads>(sum, [](float a, float b) { return a + b; });
  const float factor = 1 / sum;
  for (int i = static_cast<int>(threadIdx.x); i < length; i += kThreads) logits[i] *= factor;
  __syncthreads();
}

// A lane's eight dimensions of the output.
class ValueSum {
 public:
  __device__ void add(const __half* v, float p) {
    float x[8];
    load8(v + threadIdx.x % kLanes * 8, x);
#pragma unroll
    for (int d = 0; d < 8; ++d) sum_[d] = fmaf(p, x[d], sum_[d]);
  }

  // Adds up what all threads of the block have and writes the head.
  template <int kThreads, class Args>
  __device__ void write(const Args& a, int row, int head) const {
    __shared__ float parts[kThreads / kLanes][kHeadDim];
    const int thread = static_cast<int>(threadIdx.x);
#pragma unroll
    for (int d = 0; d < 8; ++d) parts[thread / kLanes][thread % kLanes * 8 + d] = sum_[d];
    __syncthreads();
    __half* out = static_cast<__half*>(a.out) + row * a.out_stride + head * kHeadDim;
    for (int d = thread; d < kHeadDim; d += kThreads) {
      float x = 0;
#pragma unroll
      for (int g = 0; g < kThreads / kLanes; ++g) x += parts[g][d];
      out[d] = __float2half_rn(x);
    }
  }

 private:
  float sum_[8] = {};
};

}  // namespace kvstow::kernels::cuda::museum
