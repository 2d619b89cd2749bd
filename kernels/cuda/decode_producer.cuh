// The loading half of decode attention: a scheduler that looks chunks up and four warps that copy
// them.
#pragma once

#include "kernels/cuda/decode_tile.cuh"

namespace kvstow::kernels::cuda {

// The slots of a chunk's tokens lane, lane + 32, lane + 64 and lane + 96, in two goes: the loads,
// and what needs their result. Tokens past the end have slot 0.
template <class Map>
struct BlockIds;

template <>
struct BlockIds<AffineMap> {
  std::int64_t first;
  std::int32_t token;

  __device__ void load(const AffineMap& map, std::int32_t row, int first_token, int tokens,
                       int lane) {
    first = tokens > 0 ? __ldg(map.first + row) : 0;
    token = first_token + lane;
  }
  __device__ std::int32_t slot(const AffineMap&, int i) const {
    return static_cast<std::int32_t>(first + token + 32 * i);
  }
};

template <>
struct BlockIds<BlockTableMap> {
  std::int32_t id[4];
  std::int32_t first;

  __device__ void load(const BlockTableMap& map, std::int32_t row, int first_token, int tokens,
                       int lane) {
    const std::int32_t* ids = map.ids + row * map.stride;
    first = first_token + lane;
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      id[i] = lane + 32 * i < tokens ? __ldg(ids + (first + 32 * i) / map.block_tokens) : 0;
    }
  }
  __device__ std::int32_t slot(const BlockTableMap& map, int i) const {
    return id[i] * map.block_tokens + (first + 32 * i) % map.block_tokens;
  }
};

// One warp that walks the block's run a few chunks ahead: what each chunk is, and its slots.
template <int kDim, int kN, class Map>
struct Scheduler {
  using Tile = DecodeTile<kDim, kN>;

  const DecodeParams& params;
  const Map& map;
  typename Tile::Shared& shared;
  int lane;

  __device__ void run() {
    PieceWalk walk(params.plan, static_cast<int>(gridDim.x), static_cast<int>(blockIdx.x),
                   params.tiling.tiles);
    const auto chunks = [&](std::int32_t r) { return chunks_of(params.length[r]); };
    Piece piece;
    int row = -1;
    int map_row = 0;
    int length = 0;
    int stable_length = 0;
    int index = 0;
    int pieces = 0;
    while (walk.next(piece, chunks)) {
      if (piece.row != row) {
        row = piece.row;
        map_row = params.map_row[row];
        length = params.length[row];
        stable_length = params.stable_length ? params.stable_length[row] : 0;
      }
      const int kv_head = piece.tile / params.tiling.tiles_per_kv_head;
      for (int chunk = piece.first; chunk < piece.last; ++chunk, ++index) {
        const int at = index % Tile::kWorkSlots;
        const int first_token = chunk * kAttentionChunk;
        const int tokens = ::max(0, ::min(kAttentionChunk, length - first_token));
        BlockIds<Map> ids;
        ids.load(map, map_row, first_token, tokens, lane);
        ptx::barrier_wait(ptx::shared_address(&shared.work_empty[at]),
                          (index / Tile::kWorkSlots + 1) & 1);
#pragma unroll
        for (int i = 0; i < 4; ++i) shared.slots[at][lane + 32 * i] = ids.slot(map, i);
        if (lane == 0) {
          const bool ends = chunk + 1 == piece.last;
          shared.work[at] = {
              piece.row,
              piece.tile,
              tokens,
              static_cast<std::int32_t>(piece.kind) |
                  (chunk == piece.first ? Tile::kPieceStarts : 0) | (ends ? Tile::kPieceEnds : 0) |
                  (ends && walk.done() ? Tile::kRunEnds : 0) | (pieces % Tile::kQuerySlots << 8),
              kv_head * kDim * 2,
              ::max(0, ::min(stable_length - first_token, tokens))};
        }
        __syncwarp();
        if (lane == 0) ptx::barrier_arrive(ptx::shared_address(&shared.work_full[at]));
      }
      ++pieces;
    }
  }
};

// Four warps that fill the ring. In a stage, warp w copies rows [16 w, 16 w + 16); kLanes lanes
// share a row, 16 bytes each, and each lane has kCopies neighbouring rows.
template <class T, int kDim, int kN>
struct Producer {
  using Tile = DecodeTile<kDim, kN>;
  using Work = typename Tile::Work;
  static constexpr int kLanes = kDim <= 64 ? 8 : kDim <= 128 ? 16 : 32;
  static constexpr int kCopies = 16 * kLanes / 32;

  const DecodeParams& params;
  typename Tile::Shared& shared;
  int thread;
  int lane_row;    // first of this lane's rows of a half-chunk
  bool lane_used;  // lanes past the end of a row (head_dim 80, 96) copy nothing
  std::uint32_t lane_bytes;
  std::uint32_t ring_address;  // of this lane's first vector of a stage
  std::uint32_t full_address;
  std::uint32_t empty_address;

  __device__ Producer(const DecodeParams& p, typename Tile::Shared& s, int t)
      : params(p),
        shared(s),
        thread(t),
        lane_row(t / 32 * 16 + t % 32 / kLanes * kCopies),
        lane_used(t % kLanes < Tile::kVectors),
        lane_bytes(t % kLanes * 16),
        ring_address(ptx::shared_address(s.ring) + lane_row * Tile::kPitch + lane_bytes),
        full_address(ptx::shared_address(s.full)),
        empty_address(ptx::shared_address(s.empty)) {}

  __device__ const unsigned char* source(const Work& work, int stage) const {
    return static_cast<const unsigned char*>(stage < 2 ? params.k : params.v) + work.head_bytes +
           lane_bytes;
  }

  // All rows of a stage of a full chunk.
  __device__ void copy_full(const unsigned char* from, const std::int32_t* slots,
                            std::uint32_t ring) {
    if (!lane_used) return;
    std::int32_t s[kCopies];
#pragma unroll
    for (int i = 0; i < kCopies; i += 4) {
      *reinterpret_cast<int4*>(s + i) = *reinterpret_cast<const int4*>(slots + lane_row + i);
    }
#pragma unroll
    for (int i = 0; i < kCopies; ++i) {
      ptx::copy16_async(ring + i * Tile::kPitch,
                        from + std::uint64_t{static_cast<std::uint32_t>(s[i])} * params.slot_bytes);
    }
  }

  // Those rows of a stage whose token lies in [from_token, to_token). Rows past the valid tokens
  // become zeros as far as a k-step reaches: 0 times what was there could be NaN.
  __device__ void copy_some(const unsigned char* from, const std::int32_t* slots,
                            std::uint32_t ring, int first, int from_token, int to_token,
                            int tokens) {
    if (!lane_used || first + thread / 32 * 16 >= tokens) return;
#pragma unroll 1
    for (int i = 0; i < kCopies; ++i) {
      const int token = first + lane_row + i;
      if (token < from_token || token >= to_token) continue;
      const bool valid = token < tokens;
      const auto s = static_cast<std::uint32_t>(valid ? slots[lane_row + i] : 0);
      ptx::copy16_async_or_zero(ring + i * Tile::kPitch,
                                from + std::uint64_t{s} * params.slot_bytes, valid);
    }
  }

  __device__ void copy_stage(const Work& work, const std::int32_t* slots, int stage, int slot,
                             int from_token, int to_token) {
    const int first = (stage & 1) * Tile::kStageTokens;
    const std::uint32_t ring = ring_address + slot * Tile::kStageBytes;
    if (from_token == 0 && to_token >= kAttentionChunk && work.tokens == kAttentionChunk) {
      copy_full(source(work, stage), slots + first, ring);
    } else {
      copy_some(source(work, stage), slots + first, ring, first, from_token, to_token, work.tokens);
    }
  }

  __device__ void copy_q(const Work& work) {
    const int tile_in_group = work.tile % params.tiling.tiles_per_kv_head;
    const int heads = ::min(kN, params.tiling.group - tile_in_group * kN);
    const int first =
        work.tile / params.tiling.tiles_per_kv_head * params.tiling.group + tile_in_group * kN;
    const T* from = static_cast<const T*>(params.q) + work.row * params.q_stride + first * kDim;
    const std::uint32_t to = ptx::shared_address(shared.q[work.flags >> 8]);
    for (int i = thread; i < heads * Tile::kVectors; i += Tile::kProducers) {
      const int h = i / Tile::kVectors;
      const int v = i % Tile::kVectors;
      ptx::copy16_async(to + h * Tile::kPitch + v * 16, from + h * kDim + v * 8);
    }
  }

  // The stage has landed once every producer's copies have.
  __device__ void arrive(int slot) {
    ptx::copies_arrive(full_address + slot * 8);
    if (thread == 0) ptx::barrier_arrive(full_address + slot * 8);
  }

  __device__ void run() {
    RingPlace<Tile::kStages> place;
    for (int index = 0;; ++index) {
      const int at = index % Tile::kWorkSlots;
      ptx::barrier_wait(ptx::shared_address(&shared.work_full[at]), index / Tile::kWorkSlots & 1);
      const Work& work = shared.work[at];
      const std::int32_t* slots = shared.slots[at];
      const bool starts = work.flags & Tile::kPieceStarts;
      const bool run_ends = work.flags & Tile::kRunEnds;
      // What no kernel of this step writes is copied before the earlier ones have finished.
      constexpr int kEarly = Tile::kStages < 4 ? Tile::kStages : 4;
      if (index == 0) {
#pragma unroll 1
        for (int stage = 0; stage < kEarly; ++stage) {
          copy_stage(work, slots, stage, stage, 0, work.stable);
        }
        ptx::wait_for_earlier_kernels();
      }
#pragma unroll
      for (int stage = 0; stage < 4; ++stage) {
        const bool begun = index == 0 && stage < kEarly;
        if (!begun) ptx::barrier_wait(empty_address + place.slot * 8, place.phase ^ 1);
        if (stage == 0 && starts) copy_q(work);
        copy_stage(work, slots, stage, place.slot, begun ? work.stable : 0, kAttentionChunk);
        arrive(place.slot);
        place = place.after(1);
      }
      if (run_ends) return;
    }
  }
};

}  // namespace kvstow::kernels::cuda
