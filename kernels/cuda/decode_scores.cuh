// The first of the two computing groups of decode attention: from K to probabilities. It works on
// the next chunk while the other group works on this one.
#pragma once

#include "kernels/cuda/decode_tile.cuh"

namespace kvstow::kernels::cuda {

// Warp w has tokens [32 w, 32 w + 32) of the chunk, as two 16-row tiles.
template <class T, int kDim, int kN>
struct ScoreGroup {
  using Tile = DecodeTile<kDim, kN>;
  using Place = RingPlace<Tile::kStages>;
  static constexpr int kNs = kN / 8;

  const DecodeParams& params;
  typename Tile::Shared& shared;
  int warp;
  int lane;

  // S of this warp's tokens. Even and odd k-steps are summed apart, so that one chain of additions
  // need not wait for the other.
  __device__ void scores(int stage, int q_slot, float (&s)[2][kNs][4]) {
    const std::uint32_t k = ptx::shared_address(shared.ring[stage]) +
                            (warp % 2 * 32 + lane % 16) * Tile::kPitch + (lane / 16) * 16;
    const std::uint32_t q =
        ptx::shared_address(shared.q[q_slot]) + (lane % 8) * Tile::kPitch + (lane / 8) * 16;
    float odd[2][kNs][4] = {};
#pragma unroll
    for (int step = 0; step < Tile::kSteps; step += 2) {
      const bool both = step + 1 < Tile::kSteps;
      std::uint32_t b[kNs][4];
#pragma unroll
      for (int n = 0; n < kNs; ++n) {
        const std::uint32_t at = q + n * 8 * Tile::kPitch + step * 32;
        if (both) {
          ptx::load_matrix_x4(b[n], at);
        } else {
          ptx::load_matrix_x2(b[n][0], b[n][1], at);
        }
      }
#pragma unroll
      for (int m = 0; m < 2; ++m) {
        const std::uint32_t at = k + m * 16 * Tile::kPitch + step * 32;
        std::uint32_t a[2][4];
        ptx::load_matrix_x4(a[0], at);
        if (both) ptx::load_matrix_x4(a[1], at + 32);
#pragma unroll
        for (int n = 0; n < kNs; ++n) {
          ptx::mma_16816<T>(s[m][n], a[0], b[n][0], b[n][1]);
          if (both) ptx::mma_16816<T>(odd[m][n], a[1], b[n][2], b[n][3]);
        }
      }
    }
#pragma unroll
    for (int m = 0; m < 2; ++m) {
#pragma unroll
      for (int n = 0; n < kNs; ++n) {
#pragma unroll
        for (int i = 0; i < 4; ++i) s[m][n][i] += odd[m][n][i];
      }
    }
  }

  // The chunk's maximum through shared memory, then probabilities there.
  __device__ void softmax(int tokens, int buffer, float (&s)[2][kNs][4]) {
    const int row = warp * 32 + lane / 4;
    const int column = lane % 4 * 2;
    if (tokens < kAttentionChunk) {
#pragma unroll
      for (int m = 0; m < 2; ++m) {
#pragma unroll
        for (int n = 0; n < kNs; ++n) {
#pragma unroll
          for (int i = 0; i < 4; ++i) {
            if (row + m * 16 + i / 2 * 8 >= tokens) s[m][n][i] = -INFINITY;
          }
        }
      }
    }
#pragma unroll
    for (int n = 0; n < kNs; ++n) {
#pragma unroll
      for (int i = 0; i < 2; ++i) {
        float m = fmaxf(fmaxf(s[0][n][i], s[0][n][i + 2]), fmaxf(s[1][n][i], s[1][n][i + 2]));
#pragma unroll
        for (int offset = 4; offset < 32; offset *= 2) {
          m = fmaxf(m, __shfl_xor_sync(0xffffffffu, m, offset));
        }
        if (lane < 4) shared.maxima[buffer][n * 8 + column + i][warp] = m;
      }
    }
    ptx::named_barrier(Tile::kScoreBarrier, Tile::kGroup);
#pragma unroll
    for (int n = 0; n < kNs; ++n) {
      float scaled[2];
#pragma unroll
      for (int i = 0; i < 2; ++i) {
        scaled[i] = chunk_maximum(params, shared.maxima[buffer][n * 8 + column + i]);
      }
#pragma unroll
      for (int m = 0; m < 2; ++m) {
#pragma unroll
        for (int i = 0; i < 2; ++i) {
          const float low =
              ptx::exp2_fast(__fmaf_rn(s[m][n][2 * i], params.scale_log2, -scaled[0]));
          const float high =
              ptx::exp2_fast(__fmaf_rn(s[m][n][2 * i + 1], params.scale_log2, -scaled[1]));
          // Transposed: heads are rows, tokens columns.
          *reinterpret_cast<std::uint32_t*>(
              shared.p[buffer] +
              probability_offset(n * 8 + lane / 4, warp * 32 + m * 16 + i * 8 + column)) =
              ptx::transpose8x8(ptx::pack<T>(low, high));
        }
      }
    }
  }

  __device__ void run() {
    const std::uint32_t full = ptx::shared_address(shared.full);
    const std::uint32_t empty = ptx::shared_address(shared.empty);
    Place place;
    for (int index = 0;; ++index) {
      const int buffer = index & 1;
      const Place k = place.after(warp / 2);
      ptx::barrier_wait(full + k.slot * 8, k.phase);
      const auto& work = shared.work[index % Tile::kWorkSlots];
      const int tokens = work.tokens;
      const int flags = work.flags;
      float s[2][kNs][4] = {};
      if (tokens > warp * 32) scores(k.slot, flags >> 8, s);
      // A stage may be given back only once it has been filled: until then its barrier still
      // counts the readers of what was there before.
      const Place other = place.after(1 - warp / 2);
      ptx::barrier_wait(full + other.slot * 8, other.phase);
      __syncwarp();
      if (lane == 0) {
        ptx::barrier_arrive(empty + place.slot * 8);
        ptx::barrier_arrive(empty + place.after(1).slot * 8);
      }
      ptx::barrier_wait(ptx::shared_address(&shared.p_empty[buffer]), (index / 2 + 1) & 1);
      softmax(tokens, buffer, s);
      __syncwarp();
      if (lane == 0) ptx::barrier_arrive(ptx::shared_address(&shared.p_full[buffer]));
      if (flags & Tile::kRunEnds) return;
      place = place.after(4);
    }
  }
};

}  // namespace kvstow::kernels::cuda
