// Results of chunks and how they are folded: in registers as they come, or from memory where an
// item's chunks are spread over blocks. Both do the same operations in the same order.
//
//   (m, l, a) (+) (m', l', a') = (M, l e + l' e', a e + a' e'),  M = max(m, m'),
//                                e = 2^(m - M), e' = 2^(m' - M)
//
// In memory a result is float accumulators [head][head_dim], then [head][sum, maximum].
#pragma once

#include "kernels/cuda/decode_tile.cuh"

namespace kvstow::kernels::cuda {

template <int kMs, int kNs>
struct Result {
  float maximum[kNs][2];
  float sum[kNs][2];
  float acc[kMs][kNs][4];

  __device__ void clear_accumulators() {
#pragma unroll
    for (int m = 0; m < kMs; ++m) {
#pragma unroll
      for (int n = 0; n < kNs; ++n) {
#pragma unroll
        for (int i = 0; i < 4; ++i) acc[m][n][i] = 0;
      }
    }
  }

  __device__ void clear() {
    clear_accumulators();
#pragma unroll
    for (int n = 0; n < kNs; ++n) {
      maximum[n][0] = maximum[n][1] = -INFINITY;
      sum[n][0] = sum[n][1] = 0;
    }
  }

  __device__ void fold(const Result& next) {
#pragma unroll
    for (int n = 0; n < kNs; ++n) {
#pragma unroll
      for (int c = 0; c < 2; ++c) {
        const float m = fmaxf(maximum[n][c], next.maximum[n][c]);
        const float old_factor = ptx::exp2_fast(__fsub_rn(maximum[n][c], m));
        const float new_factor = ptx::exp2_fast(__fsub_rn(next.maximum[n][c], m));
        maximum[n][c] = m;
        sum[n][c] = __fmaf_rn(sum[n][c], old_factor, __fmul_rn(next.sum[n][c], new_factor));
#pragma unroll
        for (int t = 0; t < kMs; ++t) {
#pragma unroll
          for (int i = c; i < 4; i += 2) {
            acc[t][n][i] =
                __fmaf_rn(acc[t][n][i], old_factor, __fmul_rn(next.acc[t][n][i], new_factor));
          }
        }
      }
    }
  }
};

// The query heads of a tile.
struct TileHeads {
  int first;
  int count;

  __device__ TileHeads(const DecodeTiling& tiling, int tile, int width) {
    const int kv_head = tile / tiling.tiles_per_kv_head;
    const int in_group = (tile - kv_head * tiling.tiles_per_kv_head) * width;
    first = kv_head * tiling.group + in_group;
    count = ::min(width, tiling.group - in_group);
  }
};

// Waits for another block's flag.
__device__ __forceinline__ void await(const unsigned* flag) {
  while (ptx::load_acquire(flag) == 0) {
  }
}

// Puts an item that lies in three blocks or more together and writes its output: the state of the
// block that began it, then every partial result up to those of the block that ends it. By the
// value group of that block, after its last chunk, when its own partial results are written. The
// loops stay rolled: this code runs once, and cold instructions cost more than they save.
template <class T, int kDim, int kN>
__device__ void merge_item(const DecodeParams& params,
                           typename DecodeTile<kDim, kN>::Shared& shared, int last_block,
                           int last_parts, int row, TileHeads heads, int thread) {
  using Tile = DecodeTile<kDim, kN>;
  auto& merge = shared.merge;
  const int lane = thread % 32;
  const auto sync = [] { ptx::named_barrier(Tile::kValueBarrier, Tile::kGroup); };
  const int began = params.plan[last_block].began;
  // Block began + 1 + i starts at chunk starts[i]; the last one is this block.
  const int blocks = last_block - began;
#pragma unroll 1
  for (int i = thread; i < blocks; i += Tile::kGroup) {
    const int b = began + 1 + i;
    const int start = params.plan[b].chunk;
    merge.starts[i] = start;
    if (i + 1 < blocks && params.plan[b + 1].chunk != start) await(params.partials_flag(b));
  }
  if (thread == 0) await(params.state_flag(began));
  sync();
  const int first_chunk = merge.starts[0];
  const int parts = 1 + merge.starts[blocks - 1] - first_chunk + last_parts;
  for (int first = 0; first < parts; first += Tile::kMergeParts) {
    const int batch = ::min(Tile::kMergeParts, parts - first);
    // Where each part is, as an offset from the states.
#pragma unroll 1
    for (int i = thread; i < batch; i += Tile::kGroup) {
      const float* part = params.state(began);
      if (first + i > 0) {
        const int chunk = first_chunk + first + i - 1;
        int low = 0;
        int high = blocks;
        while (high - low > 1) {
          const int middle = (low + high) / 2;
          (merge.starts[middle] <= chunk ? low : high) = middle;
        }
        part = params.partial(began + 1 + low, chunk - merge.starts[low]);
      }
      merge.parts[i] = static_cast<std::int32_t>(part - params.states);
    }
    sync();
    // Factors of what is there and of what is added, by a running maximum: one warp a head.
#pragma unroll 1
    for (int head = thread / 32; head < heads.count; head += Tile::kGroupWarps) {
      float before = first == 0 ? -INFINITY : merge.maxima[head];
#pragma unroll 1
      for (int i = lane; i - lane < batch; i += 32) {
        float2 scalars = {0, -INFINITY};  // sum, maximum
        if (i < batch) {
          scalars = __ldcg(reinterpret_cast<const float2*>(params.states + merge.parts[i] +
                                                           heads.count * kDim + head * 2));
        }
        float up_to = scalars.y;
#pragma unroll
        for (int offset = 1; offset < 32; offset *= 2) {
          const float other = __shfl_up_sync(0xffffffffu, up_to, offset);
          if (lane >= offset) up_to = fmaxf(up_to, other);
        }
        up_to = fmaxf(up_to, before);
        float previous = __shfl_up_sync(0xffffffffu, up_to, 1);
        if (lane == 0) previous = before;
        before = __shfl_sync(0xffffffffu, up_to, 31);
        if (i < batch) {
          const float added = ptx::exp2_fast(__fsub_rn(scalars.y, up_to));
          merge.factors[head][i] = {ptx::exp2_fast(__fsub_rn(previous, up_to)), added,
                                    __fmul_rn(scalars.x, added), 0};
        }
      }
      __syncwarp();
      if (lane == 0) merge.maxima[head] = before;
    }
    sync();
    // Four accumulators a thread, many parts' loads in flight; and each thread the sum for itself.
#pragma unroll 1
    for (int vector = thread; vector < heads.count * kDim / 4; vector += Tile::kGroup) {
      const int head = vector / (kDim / 4);
      float4 value = {0, 0, 0, 0};
      float sum = 0;
      if (first > 0) {
        value = merge.values[vector];
        sum = merge.sums[vector];
      }
#pragma unroll kDim == 128 ? 8 : 4
      for (int i = 0; i < batch; ++i) {
        const float4 x =
            __ldcg(reinterpret_cast<const float4*>(params.states + merge.parts[i]) + vector);
        const float4 f = merge.factors[head][i];
        value.x = __fmaf_rn(value.x, f.x, __fmul_rn(x.x, f.y));
        value.y = __fmaf_rn(value.y, f.x, __fmul_rn(x.y, f.y));
        value.z = __fmaf_rn(value.z, f.x, __fmul_rn(x.z, f.y));
        value.w = __fmaf_rn(value.w, f.x, __fmul_rn(x.w, f.y));
        sum = __fmaf_rn(sum, f.x, f.z);
      }
      merge.values[vector] = value;
      merge.sums[vector] = sum;
      if (first + batch == parts) {
        const float inverse = sum > 0 ? 1 / sum : 0.0f;
        T* out = static_cast<T*>(params.out) + row * params.out_stride + heads.first * kDim;
        reinterpret_cast<uint2*>(out)[vector] = {
            ptx::pack<T>(value.x * inverse, value.y * inverse),
            ptx::pack<T>(value.z * inverse, value.w * inverse)};
      }
    }
    sync();
  }
  if (thread == 0) *params.state_flag(began) = 0;
#pragma unroll 1
  for (int i = thread; i + 1 < blocks; i += Tile::kGroup) *params.partials_flag(began + 1 + i) = 0;
}

}  // namespace kvstow::kernels::cuda
