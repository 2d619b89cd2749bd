// Putting partial results together: those of a block's warps, then those of an item's leaves.
//
// A result is (maximum m, sum l, accumulators a) of some tokens. The warps of a block are merged at
// once, M = max m and the sums of l and a, each times 2^(m - M), in order. Leaves are folded from
// left to right,
//
//   (m, l, a) (+) (m', l', a') = (M, l e + l' e', a e + a' e'),  M = max(m, m'),
//                                e = 2^(m - M), e' = 2^(m' - M),
//
// as they come where one block has them all, from shared memory where a team shares them: the same
// operations.
#pragma once

#include "kernels/cuda/decode_tile.cuh"

namespace kvstow::kernels::cuda {

__device__ __forceinline__ float4 scaled(float4 x, float f) {
  return {__fmul_rn(x.x, f), __fmul_rn(x.y, f), __fmul_rn(x.z, f), __fmul_rn(x.w, f)};
}
// sum e + x, x already scaled.
__device__ __forceinline__ float4 fold(float4 sum, float e, float4 x) {
  return {__fmaf_rn(sum.x, e, x.x), __fmaf_rn(sum.y, e, x.y), __fmaf_rn(sum.z, e, x.z),
          __fmaf_rn(sum.w, e, x.w)};
}

// A state in this block's shared memory, or in that of another block of the cluster.
struct LocalState {
  float* at;
  __device__ float4 load(int i) const { return *reinterpret_cast<const float4*>(at + i); }
  __device__ void store(float4 v, int i) const { *reinterpret_cast<float4*>(at + i) = v; }
};
struct ClusterState {
  std::uint32_t at;
  __device__ float4 load(int i) const { return ptx::load_cluster4(at + i * 4); }
  __device__ void store(float4 v, int i) const { ptx::store_cluster4(at + i * 4, v); }
};

// One warp's work for one query head: the result of a leaf, then of more and more leaves. A lane
// has float4s lane, lane + 32, ... of the head's dimensions.
template <int kDim>
struct HeadMerge {
  using Tile = DecodeTile<kDim>;
  static constexpr int kQuads = Tile::kQuads;
  static constexpr int kLaneQuads = Tile::kLaneQuads;

  int lane;
  float maximum;
  float sum;
  float4 value[kLaneQuads];

  // Calls visit(value, its place in a row of floats) for all that this lane holds.
  template <class Visit>
  __device__ void each(const Visit& visit) {
#pragma unroll
    for (int i = 0; i < kLaneQuads; ++i) {
      if (lane + 32 * i < kQuads) visit(value[i], 4 * (lane + 32 * i));
    }
  }

  // The results of the block's warps.
  __device__ void merge_warps(const typename Tile::Shared& shared, int head) {
    const float2 scalars = shared.scalars[lane % Tile::kWarps][head];
    maximum = scalars.x;
#pragma unroll
    for (int offset = Tile::kWarps / 2; offset > 0; offset /= 2) {
      maximum = fmaxf(maximum, __shfl_xor_sync(0xffffffffu, maximum, offset));
    }
    const float factor =
        scalars.x == -INFINITY ? 0.0f : ptx::exp2_fast(__fsub_rn(scalars.x, maximum));
    sum = __fmul_rn(scalars.y, factor);
#pragma unroll
    for (int offset = Tile::kWarps / 2; offset > 0; offset /= 2) {
      sum = __fadd_rn(sum, __shfl_xor_sync(0xffffffffu, sum, offset));
    }
#pragma unroll
    for (int i = 0; i < kLaneQuads; ++i) value[i] = {0, 0, 0, 0};
#pragma unroll
    for (int w = 0; w < Tile::kWarps; ++w) {
      const float f = __shfl_sync(0xffffffffu, factor, w);
      each([&](float4& v, int at) {
        const float4 x = *reinterpret_cast<const float4*>(&shared.results[w][head][at]);
        v = {__fmaf_rn(x.x, f, v.x), __fmaf_rn(x.y, f, v.y), __fmaf_rn(x.z, f, v.z),
             __fmaf_rn(x.w, f, v.w)};
      });
    }
  }

  // What the leaves so far gave comes before.
  template <class State>
  __device__ void fold_onto(const State& state) {
    const float4 scalars = state.load(kDim);
    const float m = fmaxf(scalars.x, maximum);
    const float e = ptx::exp2_fast(__fsub_rn(scalars.x, m));
    const float f = ptx::exp2_fast(__fsub_rn(maximum, m));
    maximum = m;
    sum = __fmaf_rn(scalars.y, e, __fmul_rn(sum, f));
    each([&](float4& v, int at) { v = fold(state.load(at), e, scaled(v, f)); });
  }

  // store(float4, its place in a state) for all of it, the scalars after the dimensions.
  template <class Store>
  __device__ void put(const Store& store) {
    each([&](float4& v, int at) { store(v, at); });
    if (lane == 0) store(float4{maximum, sum, 0, 0}, kDim);
  }
  template <class State>
  __device__ void keep(const State& state) {
    __syncwarp();
    put([&](float4 v, int at) { state.store(v, at); });
    __syncwarp();
  }
  __device__ void push(std::uint32_t state, std::uint32_t full) {
    __syncwarp();
    put([&](float4 v, int at) { ptx::store_async4(state + at * 4, v, full); });
  }

  // Folds `count` states at from, from + step, ...
  __device__ void fold_states(const float* from, int step, int count) {
    float2 scalars = {-INFINITY, 0};
    if (lane < count) scalars = *reinterpret_cast<const float2*>(from + lane * step + kDim);
    // The running maximum before and with each lane's part.
    float m = scalars.x;
#pragma unroll
    for (int offset = 1; offset < kMaxLeaves; offset *= 2) {
      const float other = __shfl_up_sync(0xffffffffu, m, offset);
      if (lane >= offset) m = fmaxf(m, other);
    }
    float before = __shfl_up_sync(0xffffffffu, m, 1);
    if (lane == 0) before = -INFINITY;
    const auto factor = [&](float from) {  // a row of length 0 has no maximum
      return from == -INFINITY ? 0.0f : ptx::exp2_fast(__fsub_rn(from, m));
    };
    const float e = factor(before);
    const float f = factor(scalars.x);
    const float added = __fmul_rn(scalars.y, f);
    sum = 0;
#pragma unroll
    for (int i = 0; i < kLaneQuads; ++i) value[i] = {0, 0, 0, 0};
#pragma unroll
    for (int j = 0; j < kMaxLeaves; ++j) {
      if (j < count) {
        const float e_j = __shfl_sync(0xffffffffu, e, j);
        const float f_j = __shfl_sync(0xffffffffu, f, j);
        sum = __fmaf_rn(sum, e_j, __shfl_sync(0xffffffffu, added, j));
        each([&](float4& v, int at) {
          v = fold(v, e_j, scaled(*reinterpret_cast<const float4*>(from + j * step + at), f_j));
        });
      }
    }
  }

  template <class T>
  __device__ void write(T* out) {
    const float inverse = sum > 0 ? ptx::reciprocal(sum) : 0.0f;
    each([&](float4& v, int at) {
      ptx::store8_kept(out + at, ptx::pack<T>(v.x * inverse, v.y * inverse),
                       ptx::pack<T>(v.z * inverse, v.w * inverse));
    });
  }
};

}  // namespace kvstow::kernels::cuda
