// Who computes what in decode attention: plain functions, the same on the host (tests) and on the
// device (the planning kernel).
//
// An ITEM is one row and one tile of query heads. Its context is cut into at most eight LEAVES of
// whole chunks (kAttentionChunk tokens at absolute positions), as equal as they can be: a function
// of the row's length alone. A leaf's result is computed by one block, and leaves are folded from
// left to right, so no float depends on who computes what.
//
// Items are dealt to TEAMS of 1, 2, 3, 4 or 8 blocks of one cluster. The blocks of a team share an
// item's leaves, each a run of them, and one of them puts each head's results together. Longer rows
// come first, and every other round of dealing goes the other way round:
//
//   3 teams     team 0    item 0 (longest)    item 5    item 6
//               team 1    item 1              item 4    item 7
//               team 2    item 2              item 3    item 8
//
// The tiles of a row are neighbours in that order, so neighbouring blocks read neighbouring heads
// of the same tokens at the same time.
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

// --- Leaves -------------------------------------------------------------------------------------

inline constexpr int kMaxLeaves = 8;  // of one row
inline constexpr int kMaxTeam = 8;    // blocks

[[nodiscard]] KVSTOW_HD constexpr std::int32_t chunks_of(std::int32_t length) {
  return length <= 0 ? 1 : (length + kAttentionChunk - 1) / kAttentionChunk;
}

// Leaves of one chunk in rows of up to four, of two in rows of up to fifteen, eight leaves beyond:
// short rows spread over several blocks, and a leaf's end takes time. A row of length 0 has one
// leaf without tokens.
[[nodiscard]] KVSTOW_HD constexpr std::int32_t leaves_of(std::int32_t length) {
  const std::int32_t chunks = chunks_of(length);
  if (chunks <= 4) return chunks;
  return chunks < 2 * kMaxLeaves ? (chunks + 1) / 2 : kMaxLeaves;
}

// Where a leaf begins: the first token of its first chunk, or the row's end.
[[nodiscard]] KVSTOW_HD constexpr std::int32_t leaf_begin(std::int32_t length, std::int32_t leaf) {
  const std::int32_t chunks = chunks_of(length);
  const std::int64_t chunk = chunks <= 4               ? leaf
                             : chunks < 2 * kMaxLeaves ? 2 * leaf
                                                       : std::int64_t{leaf} * chunks / kMaxLeaves;
  const std::int64_t token = chunk * kAttentionChunk;
  return token < length ? static_cast<std::int32_t>(token) : (length < 0 ? 0 : length);
}

// The first leaf of block `rank` of a team; the block after it begins where it ends.
[[nodiscard]] KVSTOW_HD constexpr int first_leaf(std::int32_t length, int rank, int team) {
  return rank * leaves_of(length) / team;
}

// A block's share of one item: a run of leaves, none at all where the row has fewer than the team
// has blocks. Sixteen bytes, so that one load brings it.
struct alignas(16) Part {
  std::int32_t row;  // -1: nothing to do
  std::int32_t map_row;
  std::int32_t length;
  std::uint32_t packed;

  [[nodiscard]] KVSTOW_HD constexpr int tile() const { return bits(0, 10); }
  // Its leaves, and how many the team's first block has.
  [[nodiscard]] KVSTOW_HD constexpr int first() const { return bits(10, 4); }
  [[nodiscard]] KVSTOW_HD constexpr int end() const { return bits(14, 4); }
  [[nodiscard]] KVSTOW_HD constexpr int prefix() const { return bits(18, 4); }
  [[nodiscard]] KVSTOW_HD constexpr int rank() const { return bits(22, 3); }
  [[nodiscard]] KVSTOW_HD constexpr int team() const { return bits(25, 4); }
  // The block has another part after this one.
  [[nodiscard]] KVSTOW_HD constexpr bool more() const { return bits(29, 1) != 0; }

 private:
  [[nodiscard]] KVSTOW_HD constexpr int bits(int at, int count) const {
    return static_cast<int>(packed >> at & ((1u << count) - 1));
  }
};
inline constexpr int kMaxTiles = 1 << 10;

[[nodiscard]] KVSTOW_HD constexpr Part part_of(std::int32_t row, std::int32_t map_row,
                                               std::int32_t length, int tile, int rank, int team,
                                               bool more) {
  const int packed = tile | first_leaf(length, rank, team) << 10 |
                     first_leaf(length, rank + 1, team) << 14 | first_leaf(length, 1, team) << 18 |
                     rank << 22 | team << 25 | (more ? 1 : 0) << 29;
  return {row, map_row, length < 0 ? 0 : length, static_cast<std::uint32_t>(packed)};
}

// What the blocks of a team hand each other are STATES of one head: slot 0 is what block 0's leaves
// give together, every other leaf has a slot of its own. Head h of a tile is put together by block
// h modulo the team's size.
[[nodiscard]] KVSTOW_HD constexpr int state_slots(const Part& part) {
  return leaves_of(part.length) - part.prefix() + 1;
}
[[nodiscard]] KVSTOW_HD constexpr int own_heads(int heads, int team) {
  return (heads + team - 1) / team;
}
inline constexpr int kMaxStates = 21;  // a team of 3 with 8 heads: 7 slots of 3 heads

// --- Dealing ------------------------------------------------------------------------------------

// Items 0, 1, ... to teams of neighbouring blocks; `blocks` is a multiple of the team's size.
struct Deal {
  std::int32_t items;
  std::int32_t blocks;
  std::int32_t team;
  bool folded;  // every other round goes the other way round

  [[nodiscard]] KVSTOW_HD constexpr std::int32_t teams() const { return blocks / team; }
  [[nodiscard]] KVSTOW_HD constexpr std::int32_t rounds() const {
    return (items + teams() - 1) / teams();
  }
  // The item that the n-th of `teams` teams gets in a round, or -1.
  [[nodiscard]] KVSTOW_HD constexpr std::int32_t item(std::int32_t round, std::int32_t n,
                                                      std::int32_t teams) const {
    const std::int32_t i = round * teams + (folded && round % 2 ? teams - 1 - n : n);
    return i < items ? i : -1;
  }
};

// What an item takes of a block's time, in tokens: the largest part, and what comes with a part
// and with a team (fitted by hand to one H200).
[[nodiscard]] KVSTOW_HD constexpr std::int32_t dealing_cost(std::int32_t length, int team) {
  const std::int32_t last = leaf_begin(length, first_leaf(length, team - 1, team));
  const std::int32_t first = leaf_begin(length, first_leaf(length, 1, team));
  return (length - last > first ? length - last : first) + 16 + (team > 1 ? 32 : 0);
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

// How many blocks of a body run at once in clusters of 1, 2, 3 or 8; 0 where there are no clusters.
struct DecodeRoom {
  std::int32_t blocks[kMaxTeam + 1];
  std::int32_t longest;  // row that may come
};
inline constexpr int kClusters[] = {1, 2, 3, 8};

// A launch with that many items.
struct DecodeGrid {
  std::int32_t cluster;
  std::int32_t blocks;
};

// Clusters of more than two blocks only where all items' run at once: where clusters of eight would
// fill the device they do not all fit, and the next launch's blocks start late. Long rows take
// teams that leave no multiprocessor with two blocks while others have one: blocks then drift apart
// and no longer read neighbouring heads at the same time. Rows of four leaves gain nothing from a
// third block.
//
// A grid of teams that has less than one block for each multiprocessor is filled up with blocks
// that have nothing to do: otherwise two blocks of one launch share a multiprocessor wherever the
// launch before has left both places, and all wait for those. (Few clusters of eight with long rows
// are better off without.) For the same reason rows of eight leaves take half as many teams of
// eight where teams of four will do.
[[nodiscard]] constexpr DecodeGrid decode_grid(const DecodeRoom& room, std::int32_t items) {
  const std::int32_t half = room.blocks[1] / 2;
  const bool long_rows = room.longest > 4096;
  const bool eights = long_rows ? items * 8 <= half : items * 4 <= room.blocks[8];
  const bool most_leaves = leaves_of(room.longest) == kMaxLeaves;
  const bool threes = long_rows ? items * 3 <= half : most_leaves && items * 3 <= room.blocks[3];
  std::int32_t cluster = 1;
  if (room.blocks[2] > 0) cluster = 2;
  if (room.blocks[3] > 0 && threes) cluster = 3;
  if (room.blocks[8] > 0 && eights) cluster = 8;
  const std::int32_t most = room.blocks[cluster] / cluster;
  std::int32_t clusters = items < most ? items : most;
  const std::int32_t alone = half / cluster < most ? half / cluster : most;
  const bool few =
      clusters < alone && clusters * cluster * 4 > half && !(long_rows && cluster == 8);
  const bool fours = cluster == 8 && most_leaves && !long_rows && items <= alone * 2;
  if (cluster > 1 && (few || fours)) clusters = alone;
  return {cluster, clusters * cluster};
}

// What else a body does in advance, by the longest rows that may come. Where blocks have two tiles
// of a row or more, K of the second one is fetched before the launch before has finished. Where a
// few long rows leave multiprocessors idle, a leaf's block ids are loaded before it begins.
enum class DecodeAhead : std::uint8_t { nothing, second_tile, ids };

[[nodiscard]] constexpr DecodeAhead decode_ahead(const DecodeRoom& room, const DecodeGrid& grid,
                                                 std::int32_t items, bool tiles_have_ids) {
  if (tiles_have_ids && room.longest > 4096 && grid.cluster > 2) return DecodeAhead::ids;
  const std::int32_t leaves = leaves_of(room.longest);
  const bool two = chunks_of(room.longest) > leaves || (leaves > 1 && items * leaves > grid.blocks);
  return two ? DecodeAhead::second_tile : DecodeAhead::nothing;
}

// The plan of one decode step in its workspace, shared by all layers: each block's parts, block b's
// at list[b], list[b + blocks], ... A block looks at its second place before it knows of one.
[[nodiscard]] constexpr std::int64_t plan_entries(const DecodeRoom& room, std::int64_t items) {
  std::int64_t most = 0;
  for (const int cluster : kClusters) {
    const std::int64_t entries = items * cluster + 2 * std::int64_t{room.blocks[cluster]};
    if (room.blocks[cluster] > 0 && entries > most) most = entries;
  }
  return most;
}

}  // namespace kvstow::kernels::cuda
