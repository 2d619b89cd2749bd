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

template <class T, int kDim, class Map, bool kBoxes>
class WgmmaLoader {
 public:
  using Tile = WgmmaTile<kDim>;
  using Shared = typename Tile::Shared;
  static constexpr bool kAffine = __is_same(Map, AffineMap);
  static constexpr int kBoxTokens = kAffine ? Tile::kTokens : 16;
  static constexpr int kTileBoxes = Tile::kTokens / kBoxTokens;  // of a panel
  static constexpr int kBoxWarps = kAffine ? 1 : 4;              // that issue them
  static constexpr int kWarpBoxes = kTileBoxes * Tile::kPanels / kBoxWarps;

  static constexpr int kWarps = kBoxes ? kBoxWarps : 4;
  // That a stage on its way gets: of a lane of every warp, or of every thread.
  static constexpr int kArrivals = kBoxes ? kBoxWarps : 128;

  __device__ WgmmaLoader(const PrefillAttentionArgs<Map>& a, const CUtensorMap& queries,
                         const CUtensorMap& cache, Shared& s)
      : a_(a),
        queries_(queries),
        cache_(cache),
        s_(s),
        thread_(static_cast<int>(threadIdx.x)),
        lane_(thread_ % 32) {}

  // By the warps before kWarps.
  __device__ void run(const WgmmaWork<kDim>& work, WgmmaCounter& counter) {
    const int blocks = static_cast<int>(gridDim.x);
    const int items = work.items();
    int item = static_cast<int>(blockIdx.x);
    for (int i = 0; item < items; ++i) {
      int index = 0;
      work.find(item, index, head_);
      const QueryTile tile = QueryTile::find(a_, index, Tile::kRows);
      if (tile.rows > 0) load_item(tile);
      // Asked for no earlier than this: the blocks that are through first get the longest items.
      if (thread_ == 0) s_.next[i % 2] = blocks + atomicAdd(&counter.next, 1);
      ptx::named_barrier(5, kWarps * 32);
      item = s_.next[i % 2];
    }
    QueryTile none{};
    none.rows = -1;
    load_queries(none);
    if (thread_ == 0) counter.finish(blocks);
  }

 private:
  __device__ void load_item(const QueryTile& tile) {
    kv_head_ = head_ / (a_.heads / a_.pool.layout.kv_heads);
    row_ = a_.map_row[tile.sequence];
    length_ = tile.kv_length;
    load_queries(tile);
    const int steps = steps_of(tile, Tile::kTokens);
    std::int32_t last = -1;
    std::int32_t slot = find_slot(0);
    for (int t = 0; t < steps; ++t, ++use_) {
      load<0>(slot, use_);
      if (t > 0) load<1>(last, use_ - 1);
      last = slot;
      if (t + 1 < steps) slot = find_slot(t + 1);
    }
    load<1>(last, use_ - 1);
  }

  // A tile of queries (of rows -1: there is none left) with what the consumers must know of it.
  __device__ void load_queries(const QueryTile& tile) {
    const int use = queries_so_far_++;
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

  // Slot of this lane's box of a tile, or of this thread's token; -1 where there is none.
  __device__ std::int32_t find_slot(int t) const {
    const int position = t * Tile::kTokens + (kBoxes ? box() % kTileBoxes * kBoxTokens : thread_);
    if (position >= length_ || (kBoxes && lane_ >= kWarpBoxes)) return -1;
    return static_cast<std::int32_t>(slot_of(a_.map, row_, position));
  }
  __device__ int box() const {
    return thread_ / 32 * kWarpBoxes + lane_;
  }

  // K (part 0) or V (1) of a tile into its stage, once that is free.
  template <int kPart>
  __device__ void load(std::int32_t slot, int use) {
    const int stage = use % Tile::kStages;
    std::uint64_t* full = kPart ? s_.v_full : s_.k_full;
    std::uint64_t* empty = kPart ? s_.v_empty : s_.k_empty;
    ptx::barrier_wait(ptx::shared_address(&empty[stage]), use / Tile::kStages % 2 ^ 1);
    const std::uint32_t bar = ptx::shared_address(&full[stage]);
    const std::uint32_t to = ptx::shared_address(kPart ? s_.v[stage] : s_.k[stage]);
    if constexpr (kBoxes) {
      constexpr int kBoxBytes = kBoxTokens * 128;
      const int boxes = __popc(__ballot_sync(0xffffffffu, slot >= 0));
      if (lane_ == 0) ptx::barrier_expect(bar, boxes * kBoxBytes);
      __syncwarp();
      if (slot >= 0) {
        ptx::copy_box(to + box() / kTileBoxes * Tile::kPanel + box() % kTileBoxes * kBoxBytes,
                      &cache_, box() / kTileBoxes * 64, kv_head_, slot, kPart, bar);
      }
      __syncwarp();
    } else {
      constexpr int kRowsAtOnce = 32 / Tile::kVectors;
      const KvLayout& layout = a_.pool.layout;
      const int vector = lane_ % Tile::kVectors;
      const T* from = static_cast<const T*>(a_.pool.data) + layout.part_offset(a_.layer, kPart) +
                      kv_head_ * kDim + vector * 8;
      const std::uint32_t panel = to + vector / 8 * Tile::kPanel;
#pragma unroll 4
      for (int i = 0; i < 32 / kRowsAtOnce; ++i) {
        const int row = i * kRowsAtOnce + lane_ / Tile::kVectors;  // of this warp's 32
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
  int lane_;
  int head_ = 0;
  int kv_head_ = 0;
  int row_ = 0;
  int length_ = 0;
  int use_ = 0;  // of the stages, so far
  int queries_so_far_ = 0;
};

}  // namespace kvstow::kernels::cuda
