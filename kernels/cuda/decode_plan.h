// Who computes what in decode attention: plain functions, the same on the host (tests) and on the
// device (the planning kernel).
//
// An ITEM is one row and one tile of query heads. Its context is cut into LEAVES: runs of whole
// chunks (kAttentionChunk tokens at absolute positions), a number of them that depends on the row's
// length alone. A leaf's result is computed by one block, and leaves are folded from left to right,
// so no float depends on who computes what. That is dealt in UNITS, one leaf or a whole row:
//
//   row 0: unit 0: tile 0, tile 1, ...   unit 1: tile 0, tile 1, ...      row 1: unit 0: ...
//
// An ENTRY is one unit of one item, counted as above, and block b of n computes entries b, b + n,
// b + 2 n, ... Neighbouring blocks then read neighbouring heads of the same tokens at the same
// time. Whole rows are cheapest where they keep all blocks equally busy. Otherwise the block that
// has a row's last leaf puts it together from what the others left in memory. It may wait, but
// only for earlier entries, and every block computes its entries in order: nobody waits in a
// circle as long as the whole grid is resident.
#pragma once

#include <cstdint>

#include "kernels/kernels.h"

namespace kvstow::kernels::cuda {

// n / divisor as a multiplication, for 0 <= n < 2^31: with 2^(s - 1) < divisor <= 2^s and
// m = ceil(2^(31 + s) / divisor), n m / 2^(31 + s) exceeds n / divisor by less than 1 / divisor.
struct Divider {
  std::uint32_t multiplier;
  std::uint32_t shift;

  [[nodiscard]] KVSTOW_HD std::uint32_t quotient(std::uint32_t n) const {
    return static_cast<std::uint32_t>((std::uint64_t{n} * multiplier) >> shift);
  }
};

[[nodiscard]] constexpr Divider divide_by(std::uint32_t divisor) {
  std::uint32_t s = 0;
  while ((std::uint64_t{1} << s) < divisor) ++s;
  const std::uint64_t power = std::uint64_t{1} << (31 + s);
  return {static_cast<std::uint32_t>((power + divisor - 1) / divisor), 31 + s};
}

inline constexpr int kMaxLeaves = 8;  // of one row

[[nodiscard]] KVSTOW_HD constexpr std::int32_t chunks_of(std::int32_t length) {
  return length <= 0 ? 1 : (length + kAttentionChunk - 1) / kAttentionChunk;
}

// Chunks of a leaf: one or two in short rows, which then spread over several blocks; more in long
// ones, so that there are at most kMaxLeaves. A row of length 0 has one leaf without tokens.
[[nodiscard]] KVSTOW_HD constexpr std::int32_t leaf_chunks(std::int32_t length) {
  const std::int32_t chunks = chunks_of(length);
  std::int32_t leaf = chunks <= 2 ? 1 : 2;
  while (leaf * kMaxLeaves < chunks) leaf *= 2;
  return leaf;
}

[[nodiscard]] KVSTOW_HD constexpr std::int32_t leaves_of(std::int32_t length) {
  return (chunks_of(length) + leaf_chunks(length) - 1) / leaf_chunks(length);
}

// Some neighbouring leaves of one row.
struct alignas(16) Unit {
  std::int32_t row;
  std::int32_t first;  // token
  std::int32_t end;
  std::int32_t packed;  // leaves before | ends the row << 8 | chunks of a leaf << 9

  [[nodiscard]] KVSTOW_HD constexpr std::int32_t leaves_before() const { return packed & 0xff; }
  [[nodiscard]] KVSTOW_HD constexpr bool ends_row() const { return (packed >> 8 & 1) != 0; }
  [[nodiscard]] KVSTOW_HD constexpr std::int32_t leaf_tokens() const {
    return (packed >> 9) * kAttentionChunk;
  }
};

// Leaves [leaf, leaf + count) of a row.
[[nodiscard]] KVSTOW_HD constexpr Unit unit_of(std::int32_t row, std::int32_t length,
                                               std::int32_t leaf, std::int32_t count) {
  const std::int32_t chunks = leaf_chunks(length);
  const bool last = leaf + count == leaves_of(length);
  const std::int32_t end = (leaf + count) * chunks * kAttentionChunk;
  return {row, leaf * chunks * kAttentionChunk, last ? (length < 0 ? 0 : length) : end,
          leaf | (last ? 1 : 0) << 8 | chunks << 9};
}

// Whether whole rows are dealt: the fullest block's tokens against the mean of all blocks.
[[nodiscard]] KVSTOW_HD constexpr bool deal_whole_rows(std::int64_t fullest, std::int64_t all,
                                                       std::int32_t blocks) {
  return 2 * fullest * blocks <= 3 * all;
}

// Tokens of block `block` of `blocks` when whole rows are dealt.
[[nodiscard]] KVSTOW_HD constexpr std::int64_t tokens_of_block(const std::int32_t* length, int rows,
                                                               int tiles, int block, int blocks) {
  std::int64_t tokens = 0;
  for (std::int64_t e = block; e < std::int64_t{rows} * tiles; e += blocks) {
    tokens += length[e / tiles];
  }
  return tokens;
}

// --- Shapes and sizes ---------------------------------------------------------------------------

inline constexpr int kTileHeads = 8;  // the N of one tensor-core product

// Query heads of one tile share a pass over one K/V head.
struct DecodeTiling {
  int group;  // query heads of one K/V head
  int tiles_per_kv_head;
  int tiles;  // of one row
};

[[nodiscard]] constexpr DecodeTiling decode_tiling(int heads, int kv_heads) {
  const int group = heads / kv_heads;
  const int per_head = (group + kTileHeads - 1) / kTileHeads;
  return {group, per_head, per_head * kv_heads};
}

// Blocks of a body that share a multiprocessor.
[[nodiscard]] KVSTOW_HD constexpr int blocks_per_multiprocessor(int head_dim) {
  return head_dim <= 128 ? 2 : 1;
}

// Where things lie in the workspace of one decode step, in bytes. It is shared by all layers: the
// plan is written once per step, partial results are reused launch after launch.
struct DecodeWorkspace {
  int multiprocessors;       // to use
  std::int64_t max_units;    // of all rows together
  std::int64_t part_floats;  // of one partial result: heads of a tile * (head_dim + 4)
  std::int64_t count_at;     // int32: units of this step
  std::int64_t units_at;     // Unit[max_units]
  std::int64_t parts_at;     // float[max_units * tiles][part_floats]; 0 means not there yet
  std::int64_t bytes;
};

[[nodiscard]] constexpr DecodeWorkspace decode_workspace(int max_rows, int max_length, int heads,
                                                         const KvLayout& layout,
                                                         int multiprocessors) {
  const auto align = [](std::int64_t n) { return (n + 255) / 256 * 256; };
  const DecodeTiling tiling = decode_tiling(heads, layout.kv_heads);
  std::int64_t most = 1;  // a shorter row may have more leaves than the longest
  for (int chunks = 1; chunks <= chunks_of(max_length) && chunks <= 2 * kMaxLeaves; ++chunks) {
    const std::int64_t leaves = leaves_of(chunks * kAttentionChunk);
    most = leaves > most ? leaves : most;
  }
  DecodeWorkspace w{};
  w.multiprocessors = multiprocessors;
  w.max_units = most * (max_rows > 0 ? max_rows : 1);
  const int tile_heads = tiling.group < kTileHeads ? tiling.group : kTileHeads;
  w.part_floats = std::int64_t{tile_heads} * (layout.head_dim + 4);
  w.count_at = 0;
  w.units_at = 256;
  w.parts_at = w.units_at + align(w.max_units * static_cast<std::int64_t>(sizeof(Unit)));
  w.bytes = w.parts_at + align(w.max_units * tiling.tiles * w.part_floats * 4);
  return w;
}

}  // namespace kvstow::kernels::cuda
