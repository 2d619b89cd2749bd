// The shape of the wgmma body of prefill attention, its shared memory, and who computes what.
#pragma once

#include <cstdint>

#include "kernels/cuda/prefill_tile.cuh"
#include "kernels/cuda/ptx.cuh"

namespace kvstow::kernels::cuda {

template <int kDim>
struct WgmmaTile {
  static constexpr int kConsumers = 2;  // warpgroups, of 64 rows each
  static constexpr int kRows = kConsumers * 64;
  static constexpr int kTokens = 128;
  static constexpr int kThreads = (kConsumers + 1) * 128;
  static constexpr int kStages = 2;
  static constexpr int kPanels = kDim / 64;
  static constexpr int kQueryPanel = kRows * 128;  // bytes
  static constexpr int kPanel = kTokens * 128;
  static constexpr int kBytes = kPanels * kPanel;  // of K or V of a tile
  static constexpr int kVectors = kDim / 8;        // of 16 bytes in a row
  static constexpr int kProducerRegisters = 40;
  static constexpr int kConsumerRegisters = 232;
  static constexpr int kSorted = 512;  // tiles of a launch that are sorted by their length

  struct alignas(1024) Shared {
    unsigned char q[2][kPanels * kQueryPanel];  // a tile's, then its output
    unsigned char k[kStages][kBytes];
    unsigned char v[kStages][kBytes];
    std::uint64_t q_full[2], q_empty[2];
    std::uint64_t k_full[kStages], k_empty[kStages];
    std::uint64_t v_full[kStages], v_empty[kStages];
    QueryTile tile[2];
    int head[2];
    std::uint16_t steps[kSorted];
    std::uint16_t order[kSorted];
    int count;  // of tiles that have rows, or of all where they are not sorted
  };
};

// KV tiles that some row of a query tile sees.
__device__ inline int steps_of(const QueryTile& tile, int tokens) {
  return tile.rows <= 0 ? 0 : (tile.position + tile.rows - 1) / tokens + 1;
}

// The block's share of the work. Item i is query tile i / heads and head i % heads; tiles come by
// falling number of steps, and are dealt in rounds, every other one backwards: so all blocks get
// nearly equally much without a counter.
template <int kDim>
class WgmmaWork {
 public:
  using Tile = WgmmaTile<kDim>;
  using Shared = typename Tile::Shared;

  // By all threads, before a __syncthreads.
  template <class Map>
  __device__ static void sort(const PrefillAttentionArgs<Map>& a, int tiles, Shared& s) {
    const int thread = static_cast<int>(threadIdx.x);
    if (tiles > Tile::kSorted) {
      if (thread == 0) s.count = tiles;
      return;
    }
    if (thread == 0) s.count = 0;
    for (int t = thread; t < tiles; t += Tile::kThreads) {
      s.steps[t] =
          static_cast<std::uint16_t>(steps_of(QueryTile::find(a, t, Tile::kRows), Tile::kTokens));
    }
    __syncthreads();
    for (int t = thread; t < tiles; t += Tile::kThreads) {
      const int own = s.steps[t];
      int before = 0;
      for (int other = 0; other < tiles; ++other) {
        before += s.steps[other] > own || (s.steps[other] == own && other > t);
      }
      s.order[before] = static_cast<std::uint16_t>(t);
      if (own > 0) atomicAdd(&s.count, 1);
    }
  }

  __device__ WgmmaWork(const Shared& s, int tiles, int heads)
      : s_(s), sorted_(tiles <= Tile::kSorted), heads_(heads), items_(s.count * heads) {}

  // The block's item of a round; false when there is none left.
  __device__ bool item(int round, int& tile, int& head) const {
    const int blocks = static_cast<int>(gridDim.x);
    const int own = static_cast<int>(blockIdx.x);
    const int i = round * blocks + (round % 2 ? blocks - 1 - own : own);
    if (round * blocks >= items_) return false;
    tile = i < items_ ? i / heads_ : -1;
    head = i % heads_;
    if (tile >= 0) tile = sorted_ ? s_.order[tile] : s_.count - 1 - tile;
    return true;
  }

 private:
  const Shared& s_;
  bool sorted_;
  int heads_;
  int items_;
};

}  // namespace kvstow::kernels::cuda
