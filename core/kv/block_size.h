// Tokens per block, and the two divisions that every allocator does all day. Any size >= 1 is
// legal; powers of two, the usual case, take a shift instead of a division.
#pragma once

#include <bit>
#include <limits>

#include "core/check.h"
#include "core/types.h"

namespace kvstow {

class BlockSize {
 public:
  // Throws InputError where block_tokens < 1.
  explicit BlockSize(Tokens block_tokens) : tokens_(block_tokens.count()) {
    if (tokens_ < 1) throw InputError("block_tokens must be at least 1");
    if (tokens_ > std::numeric_limits<std::int32_t>::max()) {
      throw InputError("block_tokens must be less than 2^31");
    }
    const auto bits = static_cast<std::uint64_t>(tokens_);
    if (std::has_single_bit(bits)) shift_ = std::countr_zero(bits);
  }

  [[nodiscard]] std::int64_t tokens() const { return tokens_; }

  // Blocks that hold `tokens` >= 0.
  [[nodiscard]] std::int64_t blocks_for(std::int64_t tokens) const {
    return shift_ >= 0 ? (tokens + tokens_ - 1) >> shift_ : ceil_div(tokens, tokens_);
  }
  // Tokens in the last, partial block; 0 where the last block is full.
  [[nodiscard]] std::int64_t rest(std::int64_t tokens) const {
    return shift_ >= 0 ? tokens & (tokens_ - 1) : tokens % tokens_;
  }
  // A pool is floored to whole blocks. Throws InputError where slots < 0, or where there are more
  // blocks than a BlockId can name.
  [[nodiscard]] std::int64_t whole_blocks(Tokens slots) const {
    if (slots < Tokens(0)) throw InputError("a pool cannot have a negative number of slots");
    const std::int64_t blocks = slots.count() / tokens_;
    if (blocks > std::numeric_limits<std::int32_t>::max()) {
      throw InputError("a pool cannot have more than 2^31 - 1 blocks");
    }
    return blocks;
  }

 private:
  std::int64_t tokens_;
  int shift_ = -1;  // -1: not a power of two
};

}  // namespace kvstow
