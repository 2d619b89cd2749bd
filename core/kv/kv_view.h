// Where a sequence's tokens lie: one run of slots, or a table of blocks.
#pragma once

#include <span>

#include "core/types.h"

namespace kvstow {

// A sequence's map from token position to slot. Valid until that sequence changes.
//   extent:      position p is slot first + p;  capacity = slots held
//   block table: position p is slot blocks[p / block_tokens] * block_tokens + p % block_tokens
struct KvView {
  std::span<const BlockId> blocks;  // empty for an extent
  Slot first;                       // extent only
  Tokens block_tokens{0};           // 0 for an extent
  Tokens capacity{0};               // slots behind this view, filled or not

  [[nodiscard]] bool is_extent() const { return block_tokens == Tokens(0); }

  [[nodiscard]] Slot slot(Tokens position) const {
    if (is_extent()) return first + position;
    const BlockId block = blocks[static_cast<std::size_t>(position / block_tokens)];
    return Slot(block.index() * block_tokens.count() + position % block_tokens);
  }
};

}  // namespace kvstow
