// Who computes what in decode attention: plain functions, the same on the host (tests) and on the
// device (the planning kernel).
//
// An ITEM is one row and one tile of query heads; its context is cut into chunks of
// kAttentionChunk tokens at absolute positions (a row of length 0 has one empty chunk). Items are
// counted row-major. The n blocks of the persistent grid work in two phases:
//
//  rounds  In round k block c computes the whole item k n + c. Neighbouring blocks then read
//          neighbouring heads of the same tokens at the same time, which the memory likes.
//  runs    The chunks of the remaining items stand in one line and are dealt in runs, so that all
//          blocks end up with equally many chunks (as far as the rounds allow):
//
//      item 0        item 1              item 2       item 3
//   |--+--+--+--|--+--+--+--+--+--+--+--|--+--+--+--|--+--+...
//   block 0      |  block 1    |  block 2     |  block 3
//
// No float depends on the cut: a chunk's partial result has the same bits whoever computes it, and
// chunks are folded left to right wherever that happens. A run is up to three kinds of pieces,
// computed in this order:
//   begins   the first chunks of an item that a later block ends: fold, hand the state over
//   whole    fold, write the output
//   ends     the last chunks of an item that an earlier block began. Either that block is the one
//            just before (take its state over, which was its first piece and is long there, and go
//            on folding), or blocks lie between
//   inside   a whole run inside one long item: one partial result per chunk
// An item over three blocks or more is put together by the block that ends it, from the state of
// the one that began it and the partial results of the others and its own.
#pragma once

#include <cstdint>

#include "kernels/kernels.h"

namespace kvstow::kernels::cuda {

// A chunk's place in the line. Past the last item: {rows, 0, 0}.
struct PlanEntry {
  std::int32_t row;
  std::int32_t tile;
  std::int32_t chunk;
  std::int32_t began;  // where chunk > 0: the block that began this item

  [[nodiscard]] KVSTOW_HD bool same_item(const PlanEntry& o) const {
    return row == o.row && tile == o.tile;
  }
  [[nodiscard]] KVSTOW_HD bool same_chunk(const PlanEntry& o) const {
    return same_item(o) && chunk == o.chunk;
  }
};
// A plan is PlanEntry[blocks + 2]: [c] begins and [c + 1] ends the run of block c, and
// [blocks + 1].row is the number of rounds.

[[nodiscard]] KVSTOW_HD constexpr std::int32_t chunks_of(std::int32_t length) {
  return length <= 0 ? 1 : (length + kAttentionChunk - 1) / kAttentionChunk;
}

// Rounds that still leave enough for the runs: half an item for each block, and more where the
// items differ in length.
[[nodiscard]] KVSTOW_HD constexpr std::int32_t plan_rounds(std::int64_t items, int blocks,
                                                           bool ragged) {
  std::int64_t rounds = items / blocks;
  if (rounds > 0 && 2 * (items % blocks) < blocks) --rounds;
  if (rounds > 0 && ragged) rounds -= 1 + rounds / 4;
  return static_cast<std::int32_t>(rounds > 0 ? rounds : 0);
}

// Chunks that block c computes in the rounds. chunks_before[r] counts the chunks of one tile of
// rows [0, r).
[[nodiscard]] KVSTOW_HD inline std::int64_t chunks_in_rounds(const std::int64_t* chunks_before,
                                                             int tiles, int blocks, int rounds,
                                                             int c) {
  std::int64_t sum = 0;
  for (std::int64_t k = 0; k < rounds; ++k) {
    const auto row = (k * blocks + c) / tiles;
    sum += chunks_before[row + 1] - chunks_before[row];
  }
  return sum;
}

// The line's first chunk, counted from the first item of all.
[[nodiscard]] KVSTOW_HD inline std::int64_t line_begin(const std::int64_t* chunks_before, int rows,
                                                       int tiles, int blocks, int rounds) {
  const std::int64_t item = std::int64_t{rounds} * blocks;
  const auto row = static_cast<int>(item / tiles);
  if (row >= rows) return chunks_before[rows] * tiles;
  return chunks_before[row] * tiles + item % tiles * (chunks_before[row + 1] - chunks_before[row]);
}

// The smallest level to which runs must fill the blocks up to hold `left` chunks; filled(level) is
// the number of chunks that fit below it.
template <class Filled>
[[nodiscard]] KVSTOW_HD std::int64_t fill_level(std::int64_t left, std::int64_t most_in_rounds,
                                                const Filled& filled) {
  std::int64_t low = 0;
  std::int64_t high = most_in_rounds + left;
  while (low < high) {
    const std::int64_t middle = (low + high) / 2;
    if (filled(middle) >= left) {
      high = middle;
    } else {
      low = middle + 1;
    }
  }
  return low;
}

// Turns in_rounds[c] into the length of block c's run, in place. `excess` is how much more than the
// line fits below the level: so many of the last runs are one shorter.
KVSTOW_HD inline void run_lengths(std::int64_t* in_rounds, int blocks, std::int64_t level,
                                  std::int64_t excess) {
  for (int c = blocks - 1; c >= 0; --c) {
    std::int64_t run = level > in_rounds[c] ? level - in_rounds[c] : 0;
    if (run > 0 && excess > 0) {
      --run;
      --excess;
    }
    in_rounds[c] = run;
  }
}

// The chunk at place `at`, counted from the first item of all.
[[nodiscard]] KVSTOW_HD inline PlanEntry plan_entry(const std::int64_t* chunks_before, int rows,
                                                    int tiles, std::int64_t at) {
  if (at >= chunks_before[rows] * tiles) return {rows, 0, 0, 0};
  int low = 0;
  int high = rows;  // the row holding `at` is in [low, high)
  while (high - low > 1) {
    const int middle = (low + high) / 2;
    if (chunks_before[middle] * tiles <= at) {
      low = middle;
    } else {
      high = middle;
    }
  }
  const std::int64_t in_row = at - chunks_before[low] * tiles;
  const std::int64_t chunks = chunks_before[low + 1] - chunks_before[low];
  return {low, static_cast<std::int32_t>(in_row / chunks),
          static_cast<std::int32_t>(in_row % chunks), 0};
}

// The block that began the item in which block c's run starts: the nearest earlier one whose run
// starts at or before the item's first chunk.
[[nodiscard]] KVSTOW_HD inline std::int32_t block_that_began(const PlanEntry* plan, int c) {
  int b = c - 1;
  while (b > 0 && plan[b].chunk > 0 && plan[b].same_item(plan[c])) --b;
  return b;
}

enum class PieceKind : std::int32_t { whole, begins, inside, ends };

// Chunks [first, last) of one item.
struct Piece {
  PieceKind kind;
  std::int32_t row;
  std::int32_t tile;
  std::int32_t first;
  std::int32_t last;
};

// The pieces of one block, in the order in which they are computed.
class PieceWalk {
 public:
  KVSTOW_HD PieceWalk(const PlanEntry* plan, int blocks, int block, int tiles)
      : run_(plan + block),
        row_(run_->row),
        tile_(run_->tile),
        tiles_(tiles),
        item_(block),
        blocks_(blocks),
        rounds_(plan[blocks + 1].row) {
    const PlanEntry& end = run_[1];
    if (run_->same_chunk(end)) {
      next_ = Next::done;
    } else if (run_->same_item(end)) {
      next_ = Next::single;
    } else {
      next_ = end.chunk > 0 ? Next::begins : Next::whole;
      if (run_->chunk > 0) step();
    }
  }

  // Whether next() will return false.
  [[nodiscard]] KVSTOW_HD bool done() const {
    return rounds_ == 0 &&
           (next_ == Next::done || (next_ == Next::whole && at_end() && run_->chunk == 0));
  }

  // `chunks(row)` is chunks_of(length[row]). False when there are no more.
  template <class Chunks>
  KVSTOW_HD bool next(Piece& piece, const Chunks& chunks) {
    if (rounds_ > 0) {
      --rounds_;
      const auto row = static_cast<std::int32_t>(item_ / tiles_);
      piece = {PieceKind::whole, row, static_cast<std::int32_t>(item_ % tiles_), 0, chunks(row)};
      item_ += blocks_;
      return true;
    }
    const PlanEntry& begin = run_[0];
    const PlanEntry& end = run_[1];
    if (next_ == Next::single) {
      next_ = Next::done;
      piece = {begin.chunk == 0 ? PieceKind::begins : PieceKind::inside, begin.row, begin.tile,
               begin.chunk, end.chunk};
      return true;
    }
    if (next_ == Next::begins) {
      next_ = Next::whole;
      piece = {PieceKind::begins, end.row, end.tile, 0, end.chunk};
      return true;
    }
    if (next_ == Next::whole && !at_end()) {
      piece = {PieceKind::whole, row_, tile_, 0, chunks(row_)};
      step();
      return true;
    }
    const bool ends = next_ != Next::done && begin.chunk > 0;
    next_ = Next::done;
    if (ends) piece = {PieceKind::ends, begin.row, begin.tile, begin.chunk, chunks(begin.row)};
    return ends;
  }

 private:
  enum class Next : std::int32_t { single, begins, whole, done };

  [[nodiscard]] KVSTOW_HD bool at_end() const {
    return row_ == run_[1].row && tile_ == run_[1].tile;
  }
  KVSTOW_HD void step() {
    if (++tile_ == tiles_) {
      tile_ = 0;
      ++row_;
    }
  }

  const PlanEntry* run_;
  std::int32_t row_;  // next whole item of the run
  std::int32_t tile_;
  std::int32_t tiles_;
  std::int64_t item_;  // of the next round
  std::int32_t blocks_;
  std::int32_t rounds_;  // left
  Next next_;
};

// --- Shapes and sizes ---------------------------------------------------------------------------

// Query heads of one tile share a pass over one K/V head.
struct DecodeTiling {
  int group;           // query heads of one K/V head
  int heads_per_tile;  // at most 8, or 16 where the group is larger than 8
  int tiles_per_kv_head;
  int tiles;  // of one row
};

[[nodiscard]] constexpr DecodeTiling decode_tiling(int heads, int kv_heads) {
  const int group = heads / kv_heads;
  const int width = group <= 8 ? 8 : 16;
  const int per_head = (group + width - 1) / width;
  return {group, group < width ? group : width, per_head, per_head * kv_heads};
}

// Where things lie in the workspace of one decode step, in bytes. It is shared by all layers: the
// plan is written once per step, states and partial results are reused launch after launch.
struct DecodeWorkspace {
  int blocks;                  // of the persistent grid
  std::int64_t result_floats;  // of one state or partial result: heads_per_tile * (head_dim + 2)
  std::int64_t partials;       // room for partial results of one block: its chunks of one item
  std::int64_t plan_at;        // PlanEntry[blocks + 2]
  std::int64_t flags_at;       // uint32[2 * blocks]: state there, partial results there
  std::int64_t chunks_at;      // int64[rows + 1]
  std::int64_t states_at;      // float[blocks][result_floats]
  std::int64_t partials_at;    // float[blocks][partials][result_floats]
  std::int64_t bytes;
};

[[nodiscard]] constexpr DecodeWorkspace decode_workspace(int max_rows, int max_length, int heads,
                                                         const KvLayout& layout, int blocks) {
  const auto align = [](std::int64_t n) { return (n + 255) / 256 * 256; };
  const DecodeTiling tiling = decode_tiling(heads, layout.kv_heads);
  const std::int64_t longest = chunks_of(max_length);
  const std::int64_t run = longest * max_rows * tiling.tiles;
  DecodeWorkspace w{};
  w.blocks = blocks;
  w.result_floats = (std::int64_t{tiling.heads_per_tile} * (layout.head_dim + 2) + 3) / 4 * 4;
  w.partials = run < longest ? run : longest;
  w.plan_at = 0;
  w.flags_at = align((std::int64_t{blocks} + 2) * 16);
  w.chunks_at = w.flags_at + align(std::int64_t{blocks} * 8);
  w.states_at = w.chunks_at + align((std::int64_t{max_rows} + 1) * 8);
  w.partials_at = w.states_at + align(blocks * w.result_floats * 4);
  w.bytes = w.partials_at + align(blocks * w.partials * w.result_floats * 4);
  return w;
}

}  // namespace kvstow::kernels::cuda
