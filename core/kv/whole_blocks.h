// A pool is a number of slots, floored to whole blocks.
#pragma once

#include "core/check.h"
#include "core/types.h"

namespace kvstow {

// Throws InputError where block_tokens < 1 or slots < 0.
[[nodiscard]] inline std::int64_t whole_blocks(Tokens slots, Tokens block_tokens) {
  if (block_tokens < Tokens(1)) throw InputError("block_tokens must be at least 1");
  if (slots < Tokens(0)) throw InputError("a pool cannot have a negative number of slots");
  return slots / block_tokens;
}

}  // namespace kvstow
