// What the kernels of 2023 have in common: dot products by a few lanes for each token, a softmax
// over logits in shared memory, and values added up by 16 lanes for each token.
#pragma once

#include <cuda_fp16.h>

#include <cmath>
#include <cstdint>

namespace kvstow::kernels::cuda::museum {

constexpr int kHeadDim = 128;
constexpr int kValueLanes = kHeadDim / 8;  // of a token of V, 16 bytes each

// The part of q that one of kLanes neighbouring lanes multiplies: vectors of at most 16 bytes, the
// lanes' side by side.
template <int kLanes>
class QueryPart {
 public:
  __device__ QueryPart(const __half* q, int lane) { load(q, lane, q_); }

  // q . k in every one of the lanes. `valid` is the same in all of them; k is not read without it.
  __device__ float dot(const __half* k, int lane, bool valid) const {
    Vector part[kVectors];
    float sum = 0;
    if (valid) {
      load(k, lane, part);
#pragma unroll
      for (int v = 0; v < kVectors; ++v) {
#pragma unroll
        for (int i = 0; i < kPairs; ++i) {
          const float2 a = __half22float2(q_[v].pair[i]);
          const float2 b = __half22float2(part[v].pair[i]);
          sum = fmaf(a.x, b.x, sum);
          sum = fmaf(a.y, b.y, sum);
        }
      }
    }
#pragma unroll
    for (int offset = kLanes / 2; offset > 0; offset /= 2) {
      sum += __shfl_xor_sync(0xffffffffu, sum, offset);
    }
    return sum;
  }

 private:
  static constexpr int kElements = kHeadDim / kLanes < 8 ? kHeadDim / kLanes : 8;
  static constexpr int kPairs = kElements / 2;
  static constexpr int kVectors = kHeadDim / (kLanes * kElements);
  struct alignas(2 * kElements) Vector {
    __half2 pair[kPairs];
  };

  __device__ static void load(const __half* from, int lane, Vector (&to)[kVectors]) {
#pragma unroll
    for (int v = 0; v < kVectors; ++v) {
      to[v] = reinterpret_cast<const Vector*>(from)[v * kLanes + lane];
    }
  }

  Vector q_[kVectors];
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
struct ValueSum {
  float sum[8] = {};

  __device__ void add(const __half* v, int lane, float p) {
    const uint4 raw = reinterpret_cast<const uint4*>(v)[lane];
    const auto* pair = reinterpret_cast<const __half2*>(&raw);
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      const float2 x = __half22float2(pair[i]);
      sum[2 * i] = fmaf(p, x.x, sum[2 * i]);
      sum[2 * i + 1] = fmaf(p, x.y, sum[2 * i + 1]);
    }
  }

  // Adds up what all threads of the block have and writes one head.
  template <int kThreads>
  __device__ void write(__half* out) const {
    __shared__ float parts[kThreads / kValueLanes][kHeadDim];
    const int thread = static_cast<int>(threadIdx.x);
#pragma unroll
    for (int i = 0; i < 8; ++i) {
      parts[thread / kValueLanes][thread % kValueLanes * 8 + i] = sum[i];
    }
    __syncthreads();
    for (int d = thread; d < kHeadDim; d += kThreads) {
      float x = 0;
#pragma unroll
      for (int g = 0; g < kThreads / kValueLanes; ++g) x += parts[g][d];
      out[d] = __float2half_rn(x);
    }
  }
};

// Where one layer's K or V of a query head's K/V head begins.
template <class Args>
__device__ const __half* part_of(const Args& a, int part, int head) {
  const KvLayout& layout = a.pool.layout;
  const int kv_head = head / (a.heads / layout.kv_heads);
  return static_cast<const __half*>(a.pool.data) + layout.part_offset(a.layer, part) +
         std::int64_t{kv_head} * kHeadDim;
}

}  // namespace kvstow::kernels::cuda::museum
