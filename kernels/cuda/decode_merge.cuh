// Putting partial results together: those of a block's warps, then those of an item's leaves.
//
// A result is (maximum m, sum l, accumulators a) of some tokens. The warps of a block are merged at
// once, M = max m and the sums of l and a, each times 2^(m - M), in order. Leaves are folded from
// left to right,
//
//   (m, l, a) (+) (m', l', a') = (M, l e + l' e', a e + a' e'),  M = max(m, m'),
//                                e = 2^(m - M), e' = 2^(m' - M),
//
// as they come where one block has them all, from memory otherwise: the same operations.
//
// Between blocks a part is its own flag: a float that is 0 has not arrived, because a part's zeros
// are stored as -0. Whoever has read a part clears it for the next launch.
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

__device__ __forceinline__ bool absent(float x) {
  return __float_as_uint(x) == 0;
}
__device__ __forceinline__ bool absent(float4 x) {
  return absent(x.x) || absent(x.y) || absent(x.z) || absent(x.w);
}
__device__ __forceinline__ float present(float x) {
  return x == 0 ? -0.0f : x;
}

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

  // What this block's earlier leaves of the item gave comes before.
  __device__ void fold_onto(const float* state) {
    const float before = state[kDim];
    const float m = fmaxf(before, maximum);
    const float e = ptx::exp2_fast(__fsub_rn(before, m));
    const float f = ptx::exp2_fast(__fsub_rn(maximum, m));
    maximum = m;
    sum = __fmaf_rn(state[kDim + 1], e, __fmul_rn(sum, f));
    each([&](float4& v, int at) {
      v = fold(*reinterpret_cast<const float4*>(state + at), e, scaled(v, f));
    });
  }

  __device__ void keep(float* state) {
    __syncwarp();
    each([&](float4& v, int at) { *reinterpret_cast<float4*>(state + at) = v; });
    if (lane == 0) state[kDim] = maximum;
    if (lane == 0) state[kDim + 1] = sum;
    __syncwarp();
  }

  // Hands this leaf's part over to the block that has the row's last one.
  __device__ void publish(float* part) {
    each([&](float4& v, int at) {
      ptx::store_relaxed4(part + at, {present(v.x), present(v.y), present(v.z), present(v.w)});
    });
    if (lane == 0) ptx::store_relaxed2(part + kDim, {present(maximum), present(sum)});
  }

  // This is the row's last leaf: the parts of the others lie at from, from + step, ...
  __device__ void fold_onto_others(float* from, std::int64_t step, int others) {
    float4 x[kMaxLeaves - 1][kLaneQuads];
    const auto load = [&] {
#pragma unroll
      for (int j = 0; j + 1 < kMaxLeaves; ++j) {
#pragma unroll
        for (int i = 0; i < kLaneQuads; ++i) {
          x[j][i] = {1, 1, 1, 1};
          if (j < others && lane + 32 * i < kQuads) {
            x[j][i] = ptx::load_relaxed4(from + j * step + 4 * (lane + 32 * i));
          }
        }
      }
    };
    float2 scalars = {1, 1};
    bool missing;
    do {
      load();
      do {
        if (lane < others) scalars = ptx::load_relaxed2(from + lane * step + kDim);
      } while (__any_sync(0xffffffffu, absent(scalars.x) || absent(scalars.y)));
      missing = false;
#pragma unroll
      for (int j = 0; j + 1 < kMaxLeaves; ++j) {
#pragma unroll
        for (int i = 0; i < kLaneQuads; ++i) missing |= absent(x[j][i]);
      }
    } while (__any_sync(0xffffffffu, missing));
    if (lane == others) scalars = {maximum, sum};
    // The running maximum before and with each lane's part.
    float m = lane <= others ? scalars.x : -INFINITY;
#pragma unroll
    for (int offset = 1; offset < kMaxLeaves; offset *= 2) {
      const float other = __shfl_up_sync(0xffffffffu, m, offset);
      if (lane >= offset) m = fmaxf(m, other);
    }
    float before = __shfl_up_sync(0xffffffffu, m, 1);
    if (lane == 0) before = -INFINITY;
    const float e = ptx::exp2_fast(__fsub_rn(before, m));
    const float f = ptx::exp2_fast(__fsub_rn(scalars.x, m));
    const float added = __fmul_rn(scalars.y, f);
    float4 all[kLaneQuads];
#pragma unroll
    for (int i = 0; i < kLaneQuads; ++i) all[i] = {0, 0, 0, 0};
    sum = 0;
    const auto add = [&](int j, const float4(&part)[kLaneQuads]) {
      const float e_j = __shfl_sync(0xffffffffu, e, j);
      const float f_j = __shfl_sync(0xffffffffu, f, j);
      const float added_j = __shfl_sync(0xffffffffu, added, j);
      sum = __fmaf_rn(sum, e_j, added_j);
#pragma unroll
      for (int i = 0; i < kLaneQuads; ++i) all[i] = fold(all[i], e_j, scaled(part[i], f_j));
    };
#pragma unroll
    for (int j = 0; j + 1 < kMaxLeaves; ++j) {
      if (j < others) add(j, x[j]);
    }
    add(others, value);
#pragma unroll
    for (int i = 0; i < kLaneQuads; ++i) value[i] = all[i];
    // For the next launch.
    if (lane < others) ptx::store_relaxed2(from + lane * step + kDim, {0, 0});
    for (int j = 0; j < others; ++j) {
      each([&](float4&, int at) { ptx::store_relaxed4(from + j * step + at, {0, 0, 0, 0}); });
    }
  }

  template <class T>
  __device__ void write(T* out) {
    const float inverse = sum > 0 ? ptx::reciprocal(sum) : 0.0f;
    each([&](float4& v, int at) {
      *reinterpret_cast<uint2*>(out + at) = {ptx::pack<T>(v.x * inverse, v.y * inverse),
                                             ptx::pack<T>(v.z * inverse, v.w * inverse)};
    });
  }
};

}  // namespace kvstow::kernels::cuda
