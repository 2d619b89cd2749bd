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
    int next[2];      // items: this block's next one
    int tokens;       // of all sequences
    int total_steps;  // of all tiles
    int longest;      // tile, in steps
    int count;        // of tiles that have rows, or of all where they are not sorted
  };
};

// KV tiles that some row of a query tile sees.
__device__ inline int steps_of(const QueryTile& tile, int tokens) {
  return tile.rows <= 0 ? 0 : (tile.position + tile.rows - 1) / tokens + 1;
}

// Deals the items of one launch out: the first to each block by its index, the others here. It is
// left as it was found, at zero.
struct WgmmaCounter {
  int next;
  int done;

  // By one thread of each of `blocks` blocks, when it will not ask again.
  __device__ void finish(int blocks) {
    __threadfence();
    if (atomicAdd(&done, 1) != blocks - 1) return;
    next = 0;
    done = 0;
  }
};

// Which block computes what. Item i is query tile tile(i) and head head(i). Heads come in sections
// whose K and V fit into L2 together; within a section the tiles that see most tokens come first.
// A block takes the next item when it is through with one: WgmmaCounter.
template <int kDim>
class WgmmaWork {
 public:
  using Tile = WgmmaTile<kDim>;
  using Shared = typename Tile::Shared;

  // By all threads, before a __syncthreads.
  template <class Map>
  __device__ static void sort(const PrefillAttentionArgs<Map>& a, int tiles, Shared& s) {
    const int thread = static_cast<int>(threadIdx.x);
    const bool sorted = tiles <= Tile::kSorted;
    if (thread == 0) {
      s.count = sorted ? 0 : tiles;
      s.tokens = s.total_steps = s.longest = 0;
    }
    __syncthreads();
    for (int i = thread; i < a.sequences; i += Tile::kThreads) {
      const int rows = a.row_begin[i + 1] - a.row_begin[i];
      if (rows > 0) atomicAdd(&s.tokens, a.first[i] + rows);
    }
    if (!sorted) return;
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

  __device__ WgmmaWork(const Shared& s, int tiles, int heads, int group)
      : s_(s), sorted_(tiles <= Tile::kSorted), heads_(heads) {
    // Groups of query heads (one KV head each) that fit, or that it takes to keep every block busy
    // for twice its longest item: what is left to do when a section ends is then little of it.
    const int groups = heads / group;
    const int fit = static_cast<int>(kSectionBytes / (std::int64_t{s.tokens} * kDim * 4 + 1));
    const int busy = 2 * s.longest * static_cast<int>(gridDim.x) / (s.total_steps * group + 1) + 1;
    const int sections = ::max(groups / ::max(::max(fit, busy), 1), 1);
    section_ = (groups + sections - 1) / sections * group;
  }

  __device__ int items() const { return s_.count * heads_; }

  __device__ void find(int item, int& tile, int& head) const {
    const int first = item / (s_.count * section_) * section_;
    const int width = ::min(section_, heads_ - first);
    const int rest = item - s_.count * first;
    head = first + rest % width;
    tile = sorted_ ? s_.order[rest / width] : s_.count - 1 - rest / width;
  }

 private:
  static constexpr std::int64_t kSectionBytes = 16 << 20;

  const Shared& s_;
  bool sorted_;
  int heads_;
  int section_;
};

}  // namespace kvstow::kernels::cuda
