// One warp of the body of decode attention: its pipeline of tiles and what it has added up.
#pragma once

#include "kernels/cuda/decode_tile.cuh"

namespace kvstow::kernels::cuda {

template <class T, int kDim>
struct DecodeWarp {
  using Tile = DecodeTile<kDim>;
  using Shared = typename Tile::Shared;
  static constexpr int kSteps = Tile::kSteps;

  const DecodeParams& params;
  Shared& shared;
  int warp;
  int lane;
  std::uint32_t k_buffer;
  std::uint32_t q[kSteps][2];  // B fragments: head lane / 4
  float acc[kSteps][4];        // dimensions lane / 4 + {0, 8}, heads 2 (lane % 4) + {0, 1}
  float sum[4];
  float maximum[2];  // scaled

  __device__ DecodeWarp(const DecodeParams& p, Shared& s)
      : params(p),
        shared(s),
        warp(static_cast<int>(threadIdx.x) / 32),
        lane(static_cast<int>(threadIdx.x) % 32),
        k_buffer(ptx::shared_address(s.kv[warp])) {}

  // --- Copies -----------------------------------------------------------------------------------

  // A tile into one of the two buffers. Lane l % 16 holds the slot of token l. Tokens from `end` on
  // become zeros: 0 times what was there could be NaN. Tokens from `stable` to `end` may still be
  // written and are left to copy_late.
  __device__ void copy(const unsigned char* from, std::uint32_t to, std::uint32_t slot, int token,
                       int stable, int end) const {
    if (token + Tile::kTokens <= ::min(stable, end)) {
      if constexpr (32 % Tile::kVectors == 0) {
        constexpr int kRows = 32 / Tile::kVectors;  // of one copy of the warp, a power of two
        const int row = lane / Tile::kVectors;
        const int vector = lane % Tile::kVectors;
        to += Tile::place(row, vector);
        from += vector * 16;
        if (params.tiles_are_runs) {  // no shuffles, whose results the copies would wait for
          const std::uint32_t first = slot + row - lane % 16;
          from += std::uint64_t{first} * params.slot_bytes;
#pragma unroll
          for (int i = 0; i < Tile::kCopies; ++i) {
            ptx::copy16_async((to ^ (i * kRows % 8 * 16)) + i * kRows * Tile::kPitch, from);
            from += kRows * params.slot_bytes;
          }
          return;
        }
#pragma unroll
        for (int i = 0; i < Tile::kCopies; ++i) {
          const std::uint64_t s = __shfl_sync(0xffffffffu, slot, i * kRows + row);
          ptx::copy16_async((to ^ (i * kRows % 8 * 16)) + i * kRows * Tile::kPitch,
                            from + s * params.slot_bytes);
        }
      } else {
#pragma unroll
        for (int i = 0; i < Tile::kCopies; ++i) {
          const int row = (i * 32 + lane) / Tile::kVectors;
          const int vector = (i * 32 + lane) % Tile::kVectors;
          const std::uint64_t s = __shfl_sync(0xffffffffu, slot, row);
          ptx::copy16_async(to + Tile::place(row, vector),
                            from + vector * 16 + s * params.slot_bytes);
        }
      }
      return;
    }
#pragma unroll 1
    for (int i = 0; i < Tile::kCopies; ++i) {
      const int row = (i * 32 + lane) / Tile::kVectors;
      const int vector = (i * 32 + lane) % Tile::kVectors;
      const std::uint64_t s = __shfl_sync(0xffffffffu, slot, row);
      const unsigned char* source = from + vector * 16 + s * params.slot_bytes;
      const bool valid = token + row < end;
      if (valid && token + row >= stable) {
        ptx::prefetch_l2(source);
      } else {
        ptx::copy16_async_or_zero(to + Tile::place(row, vector), source, valid);
      }
    }
  }

  // K and V of the tile's tokens [stable, end): usually one, the step's own.
  __device__ void copy_late(std::uint32_t k_tile, int head_bytes, std::uint32_t slot, int token,
                            int stable, int end) const {
#pragma unroll 1
    for (int row = ::max(0, stable - token); row < ::min(Tile::kTokens, end - token); ++row) {
      const std::uint64_t s = __shfl_sync(0xffffffffu, slot, row);
#pragma unroll
      for (int i = lane; i < 2 * Tile::kVectors; i += 32) {
        const int part = i / Tile::kVectors;
        const int vector = i % Tile::kVectors;
        ptx::copy16_async(
            (part == 0 ? k_tile : k_buffer + Tile::kTileBytes) + Tile::place(row, vector),
            (part == 0 ? params.k : params.v) + head_bytes + vector * 16 + s * params.slot_bytes);
      }
    }
  }

  // --- Queries and results ----------------------------------------------------------------------

  __device__ void read_q(const unsigned char* from) {
    const std::uint32_t at =
        ptx::shared_address(from) + lane % 8 * Tile::kQueryPitch + lane / 8 * 16;
#pragma unroll
    for (int step = 0; step + 1 < kSteps; step += 2) {
      std::uint32_t b[4];
      ptx::load_matrix_x4(b, at + step * 32);
      q[step][0] = b[0];
      q[step][1] = b[1];
      q[step + 1][0] = b[2];
      q[step + 1][1] = b[3];
    }
    if constexpr (kSteps % 2 == 1) {
      ptx::load_matrix_x2(q[kSteps - 1][0], q[kSteps - 1][1], at + (kSteps - 1) * 32);
    }
  }

  __device__ void clear() {
    maximum[0] = maximum[1] = -INFINITY;
#pragma unroll
    for (int i = 0; i < 4; ++i) sum[i] = 0;
#pragma unroll
    for (int m = 0; m < kSteps; ++m) {
#pragma unroll
      for (int i = 0; i < 4; ++i) acc[m][i] = 0;
    }
  }

  __device__ void store_results(int heads) const {
#pragma unroll
    for (int c = 0; c < 2; ++c) {
      const int head = lane % 4 * 2 + c;
      if (head < heads) {
        if (lane < 4) shared.scalars[warp][head] = {maximum[c], sum[c]};
        float* row = shared.results[warp][head] + lane / 4;
#pragma unroll
        for (int m = 0; m < kSteps; ++m) {
          row[m * 16] = acc[m][c];
          row[m * 16 + 8] = acc[m][c + 2];
        }
      }
    }
  }

  // --- One tile ---------------------------------------------------------------------------------

  // Even and odd k-steps are summed apart, so that one chain of additions need not wait for the
  // other.
  __device__ void scores(std::uint32_t k_tile, float (&s)[4]) const {
    float odd[4] = {};
    const std::uint32_t k = k_tile + Tile::place(lane % 16, lane / 16);
#pragma unroll
    for (int step = 0; step < kSteps; ++step) {
      std::uint32_t a[4];
      ptx::load_matrix_x4(a, Tile::pair_of(k, step));
      ptx::mma_16816<T>(step % 2 ? odd : s, a, q[step][0], q[step][1]);
    }
#pragma unroll
    for (int i = 0; i < 4; ++i) s[i] = __fadd_rn(s[i], odd[i]);
  }

  // Scores become probabilities (B fragments of the next product) and what came before is scaled.
  __device__ void softmax(float (&s)[4], int tokens, std::uint32_t (&p)[2]) {
    if (lane / 4 >= tokens) s[0] = s[1] = -INFINITY;
    if (lane / 4 + 8 >= tokens) s[2] = s[3] = -INFINITY;
    float factor[2];
#pragma unroll
    for (int c = 0; c < 2; ++c) {
      float m = fmaxf(s[c], s[c + 2]);
#pragma unroll
      for (int offset = 4; offset < 32; offset *= 2) {
        m = fmaxf(m, __shfl_xor_sync(0xffffffffu, m, offset));
      }
      m = fmaxf(maximum[c], __fmul_rn(m, params.scale_log2));
      factor[c] = ptx::exp2_fast(__fsub_rn(maximum[c], m));
      maximum[c] = m;
    }
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      s[i] = ptx::exp2_fast(__fmaf_rn(s[i], params.scale_log2, -maximum[i % 2]));
      sum[i] = __fmul_rn(sum[i], factor[i % 2]);
    }
    p[0] = ptx::transpose8x8(ptx::pack<T>(s[0], s[1]));
    p[1] = ptx::transpose8x8(ptx::pack<T>(s[2], s[3]));
#pragma unroll
    for (int m = 0; m < kSteps; ++m) {
#pragma unroll
      for (int i = 0; i < 4; ++i) acc[m][i] = __fmul_rn(acc[m][i], factor[i % 2]);
    }
  }

  // The sum of probabilities is a product with ones: every row of it is what is needed.
  __device__ void values(const std::uint32_t (&p)[2]) {
    constexpr std::uint32_t kOne = __is_same(T, __half) ? 0x3c003c00u : 0x3f803f80u;
    constexpr std::uint32_t kOnes[4] = {kOne, kOne, kOne, kOne};
    ptx::mma_16816<T>(sum, kOnes, p[0], p[1]);
    const std::uint32_t v =
        k_buffer + Tile::kTileBytes + Tile::place(lane % 8 + lane / 16 * 8, lane / 8 % 2);
#pragma unroll
    for (int m = 0; m < kSteps; ++m) {
      std::uint32_t a[4];
      ptx::load_matrix_x4_transposed(a, Tile::pair_of(v, m));
      ptx::mma_16816<T>(acc[m], a, p[0], p[1]);
    }
  }
};

}  // namespace kvstow::kernels::cuda
