// What both prefill bodies share: tiles of query rows, and the slot of a position.
#pragma once

#include <cstdint>

#include "kernels/kernels.h"

namespace kvstow::kernels::cuda {

// Query tile t, of all sequences. Sequence s owns the tiles from row_begin[s] / kRows + s up to its
// successor's first: at least as many as its rows need, found without a prefix sum.
struct QueryTile {
  int sequence;
  int row;        // first
  int rows;       // at most kRows; none in a superfluous tile
  int position;   // of the first row
  int kv_length;  // tokens in the cache, this sequence's new ones included

  template <class Map>
  __device__ static QueryTile find(const PrefillAttentionArgs<Map>& a, int tile, int tile_rows) {
    int low = 0;
    int high = a.sequences;
    while (high - low > 1) {
      const int middle = (low + high) / 2;
      if (a.row_begin[middle] / tile_rows + middle <= tile) {
        low = middle;
      } else {
        high = middle;
      }
    }
    const int begin = a.row_begin[low];
    const int end = a.row_begin[low + 1];
    const int skipped = (tile - (begin / tile_rows + low)) * tile_rows;
    const int first = a.first[low];
    return {low, begin + skipped, ::min(tile_rows, end - begin - skipped), first + skipped,
            first + end - begin};
  }
};

// With 32-bit division.
__device__ inline std::int64_t slot_of(const AffineMap& map, std::int64_t row, int position) {
  return map.slot(row, position);
}
__device__ inline std::int64_t slot_of(const BlockTableMap& map, std::int64_t row, int position) {
  const auto block = static_cast<unsigned>(map.block_tokens);
  const unsigned at = static_cast<unsigned>(position);
  return std::int64_t{map.ids[row * map.stride + at / block]} * block + at % block;
}

}  // namespace kvstow::kernels::cuda
