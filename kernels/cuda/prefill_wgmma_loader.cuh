// The producer of the wgmma body: keeps queries, K and V of the next tiles on their way to shared
// memory. How they travel depends on the map and the block size; what arrives does not.
//
//   affine map                  one box of 128 tokens a panel            (TMA, one thread)
//   blocks of a multiple of 16  a box of 16 tokens a panel               (TMA, a lane each)
//   any other block             16 bytes a lane, tokens found one by one (cp.async, four warps)
#pragma once

#include <cuda.h>

#include "kernels/cuda/prefill_wgmma_tile.cuh"
#include "kernels/cuda/wgmma.cuh"

namespace kvstow::kernels::cuda {

template <class T, int kDim, class Map>
class WgmmaLoader {
 public:
  using Tile = WgmmaTile<kDim>;
  using Shared = typename Tile::Shared;
  static constexpr bool kAffine = __is_same(Map, AffineMap);
  static constexpr int kBoxTokens = kAffine ? Tile::kTokens : 16;

  __device__ static bool boxes(const Map& map) {
    if constexpr (kAffine) {
      return true;
    } else {
      return map.block_tokens % kBoxTokens == 0;
    }
  }
  // Threads that arrive when a stage is on its way.
  __device__ static int arrivals(const Map& map) { return boxes(map) ? 1 : 128; }

  __device__ WgmmaLoader(const PrefillAttentionArgs<Map>& a, const CUtensorMap& queries,
                         const CUtensorMap& cache, Shared& s)
      : a_(a), queries_(queries), cache_(cache), s_(s), thread_(static_cast<int>(threadIdx.x)) {}

  __device__ void run(const WgmmaWork<kDim>& work) {
    if (boxes(a_.map)) {
      if (thread_ < 32) deal<true>(work);
    } else {
      deal<false>(work);
    }
  }

 private:
  template <bool kBoxes>
  __device__ void deal(const WgmmaWork<kDim>& work) {
    int use = 0;
    int queries = 0;
    int index = 0;
    for (int round = 0; work.item(round, index, head_); ++round) {
      if (index < 0) continue;
      const QueryTile tile = QueryTile::find(a_, index, Tile::kRows);
      if (tile.rows <= 0) continue;
      kv_head_ = head_ / (a_.heads / a_.pool.layout.kv_heads);
      row_ = a_.map_row[tile.sequence];
      length_ = tile.kv_length;
      load_queries<kBoxes>(queries++, tile);
      const int steps = steps_of(tile, Tile::kTokens);
      std::int32_t last = -1;
      std::int32_t slot = find_slot<kBoxes>(0);
      for (int t = 0; t < steps; ++t, ++use) {
        load<kBoxes>(0, t, slot, use);
        if (t > 0) load<kBoxes>(1, t - 1, last, use - 1);
        last = slot;
        if (t + 1 < steps) slot = find_slot<kBoxes>(t + 1);
      }
      load<kBoxes>(1, steps - 1, last, use - 1);
    }
    QueryTile none{};
    none.rows = -1;
    load_queries<kBoxes>(queries, none);
  }

  // A tile of queries (of rows -1: there is none left) with what the consumers must know of it.
  template <bool kBoxes>
  __device__ void load_queries(int use, const QueryTile& tile) {
    const int buffer = use % 2;
    const std::uint32_t full = ptx::shared_address(&s_.q_full[buffer]);
    ptx::barrier_wait(ptx::shared_address(&s_.q_empty[buffer]), use / 2 % 2 ^ 1);
    if (thread_ != 0) return;
    s_.tile[buffer] = tile;
    s_.head[buffer] = head_;
    if (tile.rows < 0) return ptx::barrier_arrive(full);
    ptx::barrier_expect(full, Tile::kPanels * Tile::kQueryPanel);
#pragma unroll
    for (int panel = 0; panel < Tile::kPanels; ++panel) {
      ptx::copy_box(ptx::shared_address(s_.q[buffer]) + panel * Tile::kQueryPanel, &queries_,
                    panel * 64, head_, tile.row, 0, full);
    }
  }

  // Slot of this lane's box of a tile, or of this thread's token; -1 past the end of the sequence.
  template <bool kBoxes>
  __device__ std::int32_t find_slot(int t) const {
    const int position = t * Tile::kTokens +
                         (kBoxes ? thread_ % (Tile::kTokens / kBoxTokens) * kBoxTokens : thread_);
    if (position >= length_) return -1;
    return static_cast<std::int32_t>(slot_of(a_.map, row_, position));
  }

  // K (part 0) or V (part 1) of a tile into its stage, once that is free.
  template <bool kBoxes>
  __device__ void load(int part, int t, std::int32_t slot, int use) {
    const int stage = use % Tile::kStages;
    std::uint64_t* full = part ? s_.v_full : s_.k_full;
    std::uint64_t* empty = part ? s_.v_empty : s_.k_empty;
    ptx::barrier_wait(ptx::shared_address(&empty[stage]), use / Tile::kStages % 2 ^ 1);
    const std::uint32_t bar = ptx::shared_address(&full[stage]);
    const std::uint32_t to = ptx::shared_address(part ? s_.v[stage] : s_.k[stage]);
    if constexpr (kBoxes) {
      constexpr int kBoxes_ = Tile::kTokens / kBoxTokens;
      constexpr int kBoxBytes = kBoxTokens * 128;
      const int boxes = ::min(kBoxes_, (length_ - t * Tile::kTokens + kBoxTokens - 1) / kBoxTokens);
      if (thread_ == 0) ptx::barrier_expect(bar, boxes * Tile::kPanels * kBoxBytes);
      __syncwarp();
      const int panel = thread_ / kBoxes_;
      if (panel < Tile::kPanels && slot >= 0) {
        ptx::copy_box(to + panel * Tile::kPanel + thread_ % kBoxes_ * kBoxBytes, &cache_,
                      panel * 64, kv_head_, slot, part, bar);
      }
      __syncwarp();
    } else {
      constexpr int kRowsAtOnce = 32 / Tile::kVectors;
      const KvLayout& layout = a_.pool.layout;
      const int lane = thread_ % 32;
      const int vector = lane % Tile::kVectors;
      const T* from = static_cast<const T*>(a_.pool.data) + layout.part_offset(a_.layer, part) +
                      kv_head_ * kDim + vector * 8;
      const std::uint32_t panel = to + vector / 8 * Tile::kPanel;
#pragma unroll 4
      for (int i = 0; i < 32 / kRowsAtOnce; ++i) {
        const int row = i * kRowsAtOnce + lane / Tile::kVectors;  // of this warp's 32
        const std::int32_t own = __shfl_sync(0xffffffffu, slot, row);
        ptx::copy16_async_or_zero(panel + wgmma::swizzled(thread_ / 32 * 32 + row, vector % 8),
                                  from + (own < 0 ? 0 : own * layout.slot_stride()), own >= 0);
      }
      ptx::copies_arrive(bar);
    }
  }

  const PrefillAttentionArgs<Map>& a_;
  const CUtensorMap& queries_;
  const CUtensorMap& cache_;
  Shared& s_;
  int thread_;
  int head_ = 0;
  int kv_head_ = 0;
  int row_ = 0;
  int length_ = 0;
};

}  // namespace kvstow::kernels::cuda
