// The second of the two computing groups of decode attention: probabilities times V, folding, and
// what becomes of the result.
#pragma once

#include "kernels/cuda/decode_result.cuh"
#include "kernels/cuda/decode_tile.cuh"

namespace kvstow::kernels::cuda {

// Warp w has kMs 16-row tiles of O^T (dimensions), from kMs w on; all tokens.
template <class T, int kDim, int kN>
struct ValueGroup {
  using Tile = DecodeTile<kDim, kN>;
  using Work = typename Tile::Work;
  using Place = RingPlace<Tile::kStages>;
  static constexpr int kNs = kN / 8;
  static constexpr int kMs = Tile::kTilesPerWarp;

  const DecodeParams& params;
  typename Tile::Shared& shared;
  int warp;
  int lane;
  std::uint32_t full_address;
  std::uint32_t empty_address;
  const Work* work = nullptr;  // this chunk's
  // This lane's columns are heads 8 n + 2 (lane % 4) + {0, 1}.
  Result<kMs, kNs> item;
  Result<kMs, kNs> chunk;

  __device__ ValueGroup(const DecodeParams& p, typename Tile::Shared& s, int thread)
      : params(p),
        shared(s),
        warp(thread / 32),
        lane(thread % 32),
        full_address(ptx::shared_address(s.full)),
        empty_address(ptx::shared_address(s.empty)) {}

  __device__ bool has_tile(int m) const { return warp * kMs + m < Tile::kSteps; }
  __device__ bool writes_scalars() const { return warp == 0 && lane < 4; }

  // Adds one 64-token half's P (sums) and V P to the chunk's result.
  // `steps` of its four k-steps hold tokens. The sum is a product with ones: every row of it is
  // the sum over tokens, where it is needed.
  template <bool kFull>
  __device__ void values(int slot, int buffer, int half, int steps, float (&sums)[kNs][4]) {
    constexpr std::uint32_t kOne = __is_same(T, __half) ? 0x3c003c00u : 0x3f803f80u;
    constexpr std::uint32_t kOnes[4] = {kOne, kOne, kOne, kOne};
    const std::uint32_t p = ptx::shared_address(shared.p[buffer]);
    const std::uint32_t v = ptx::shared_address(shared.ring[slot]) +
                            (lane % 8 + lane / 16 * 8) * Tile::kPitch + (lane / 8 % 2) * 16 +
                            warp * kMs * 32;
    std::uint32_t b[2][kNs][4];
#pragma unroll
    for (int pair = 0; pair < 2; ++pair) {
#pragma unroll
      for (int n = 0; n < kNs; ++n) {
        ptx::load_matrix_x4(b[pair][n],
                            p + probability_offset(n * 8 + lane % 8, half * Tile::kStageTokens +
                                                                         pair * 32 + lane / 8 * 8));
      }
    }
#pragma unroll
    for (int m = 0; m < kMs; ++m) {
      if (!has_tile(m)) continue;
      std::uint32_t a[4][4];
#pragma unroll
      for (int step = 0; step < 4; ++step) {
        if (kFull || step < steps) {
          ptx::load_matrix_x4_transposed(a[step], v + step * 16 * Tile::kPitch + m * 32);
        }
      }
#pragma unroll
      for (int step = 0; step < 4; ++step) {
        if (!(kFull || step < steps)) continue;
#pragma unroll
        for (int n = 0; n < kNs; ++n) {
          const std::uint32_t b0 = b[step / 2][n][step % 2 * 2];
          const std::uint32_t b1 = b[step / 2][n][step % 2 * 2 + 1];
          ptx::mma_16816<T>(chunk.acc[m][n], a[step], b0, b1);
          if (m == 0) ptx::mma_16816<T>(sums[n], kOnes, b0, b1);
        }
      }
    }
  }

  __device__ void values_of_chunk(Place first, int buffer, int tokens) {
    float sums[kNs][4] = {};
    chunk.clear_accumulators();
#pragma unroll 1
    for (int half = 0; half < 2; ++half) {
      const Place stage = first.after(half);
      ptx::barrier_wait(full_address + stage.slot * 8, stage.phase);
      if (tokens == kAttentionChunk) {
        values<true>(stage.slot, buffer, half, 4, sums);
      } else {
        const int steps = (tokens - half * Tile::kStageTokens + 15) / 16;
        if (steps > 0) values<false>(stage.slot, buffer, half, steps, sums);
      }
      __syncwarp();
      if (lane == 0) ptx::barrier_arrive(empty_address + stage.slot * 8);
    }
#pragma unroll
    for (int n = 0; n < kNs; ++n) {
      chunk.sum[n][0] = sums[n][0];
      chunk.sum[n][1] = sums[n][1];
    }
  }

  // --- Results in memory ------------------------------------------------------------------------

  __device__ TileHeads heads() const {
    return TileHeads(params.tiling, work->tile, kN);
  }

  // Calls visit(offset, value, mine) for everything this lane holds of a result; `mine` is false
  // where another lane holds the same number.
  template <class Visit>
  __device__ void visit_result(Result<kMs, kNs>& r, const Visit& visit) {
    const int count = heads().count;
#pragma unroll
    for (int n = 0; n < kNs; ++n) {
#pragma unroll
      for (int c = 0; c < 2; ++c) {
        const int head = n * 8 + lane % 4 * 2 + c;
        if (head >= count) continue;
        const int at = head * kDim;
        const int scalars = count * kDim + head * 2;
        visit(scalars, r.sum[n][c], writes_scalars());
        visit(scalars + 1, r.maximum[n][c], writes_scalars());
#pragma unroll
        for (int m = 0; m < kMs; ++m) {
          if (!has_tile(m)) continue;
          const int dim = at + (warp * kMs + m) * 16 + lane / 4;
          visit(dim, r.acc[m][n][c], true);
          visit(dim + 8, r.acc[m][n][c + 2], true);
        }
      }
    }
  }
  __device__ void store(Result<kMs, kNs>& r, float* to) {
    visit_result(r, [&](int at, float x, bool mine) {
      if (mine) to[at] = x;
    });
  }
  __device__ void load(Result<kMs, kNs>& r, const float* from) {
    visit_result(r, [&](int at, float& x, bool) { x = __ldcg(from + at); });
  }

  // Publishes what this block's consumers have written.
  __device__ void raise(unsigned* flag) {
    ptx::named_barrier(Tile::kValueBarrier, Tile::kGroup);
    if (warp == 0 && lane == 0) ptx::store_release(flag, 1u);
  }

  __device__ void write_output() {
    const TileHeads tile = heads();
    T* out = static_cast<T*>(params.out) + work->row * params.out_stride + tile.first * kDim +
             warp * kMs * 16 + lane % 4 * 2;
#pragma unroll
    for (int n = 0; n < kNs; ++n) {
      const int head = n * 8 + lane / 4;
      const float inverse[2] = {item.sum[n][0] > 0 ? 1 / item.sum[n][0] : 0.0f,
                                item.sum[n][1] > 0 ? 1 / item.sum[n][1] : 0.0f};
#pragma unroll
      for (int m = 0; m < kMs; ++m) {
#pragma unroll
        for (int i = 0; i < 2; ++i) {
          const std::uint32_t o = ptx::transpose8x8(ptx::pack<T>(
              item.acc[m][n][2 * i] * inverse[0], item.acc[m][n][2 * i + 1] * inverse[1]));
          if (head < tile.count && has_tile(m)) {
            *reinterpret_cast<std::uint32_t*>(out + head * kDim + m * 16 + i * 8) = o;
          }
        }
      }
    }
  }

  // --- The run ----------------------------------------------------------------------------------

  __device__ void run() {
    const int block = static_cast<int>(blockIdx.x);
    Place place;
    int partials = 0;
    bool alone = false;  // the item this run ends was begun by the block before, none in between
    const int began = params.plan[block].began;
    ptx::wait_for_earlier_kernels();
    for (int index = 0;; ++index) {
      const int buffer = index & 1;
      ptx::barrier_wait(ptx::shared_address(&shared.p_full[buffer]), index / 2 & 1);
      work = &shared.work[index % Tile::kWorkSlots];
      const int tokens = work->tokens;
      const int flags = work->flags;
      const auto kind = static_cast<PieceKind>(flags & Tile::kKindMask);
      if (flags & Tile::kPieceStarts) {
        item.clear();
        partials = 0;
        if (kind == PieceKind::ends) {
          alone = began == block - 1;
          if (alone) {
            if (lane == 0) await(params.state_flag(block - 1));
            __syncwarp();
            load(item, params.state(block - 1));
          }
        }
      }
#pragma unroll
      for (int n = 0; n < kNs; ++n) {
#pragma unroll
        for (int i = 0; i < 2; ++i) {
          chunk.maximum[n][i] =
              chunk_maximum(params, shared.maxima[buffer][n * 8 + lane % 4 * 2 + i]);
        }
      }
      values_of_chunk(place.after(2), buffer, tokens);
      if (lane == 0) ptx::barrier_arrive(ptx::shared_address(&shared.p_empty[buffer]));
      place = place.after(4);
      if (tokens > 0) item.fold(chunk);
      const bool ends = flags & Tile::kPieceEnds;
      const bool partial = kind == PieceKind::inside || (kind == PieceKind::ends && !alone);
      if (partial || (ends && kind == PieceKind::begins)) {
        // A partial result is a chunk folded into nothing, which leaves it as it is.
        store(item, partial ? params.partial(block, partials++) : params.state(block));
        item.clear();
      }
      if (ends) finish_piece(kind, alone, partials);
      if (flags & Tile::kRunEnds) return;
      __syncwarp();
      if (lane == 0) {
        ptx::barrier_arrive(ptx::shared_address(&shared.work_empty[index % Tile::kWorkSlots]));
      }
    }
  }

  __device__ void finish_piece(PieceKind kind, bool alone, int partials) {
    const int block = static_cast<int>(blockIdx.x);
    switch (kind) {
      case PieceKind::whole:
        write_output();
        break;
      case PieceKind::begins:
        raise(params.state_flag(block));
        break;
      case PieceKind::inside:
        raise(params.partials_flag(block));
        break;
      case PieceKind::ends:
        ptx::named_barrier(Tile::kValueBarrier, Tile::kGroup);  // the flag seen, partials written
        if (alone) {
          write_output();
          if (warp == 0 && lane == 0) *params.state_flag(block - 1) = 0;
        } else {
          merge_item<T, kDim, kN>(params, shared, block, partials, work->row, heads(),
                                  warp * 32 + lane);
        }
        break;
    }
  }
};

}  // namespace kvstow::kernels::cuda
