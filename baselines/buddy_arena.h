// Buddy placement as the PagedAttention paper's artifact gives it to Orca (section 6.1 assumes it;
// Orca is closed source): the pool is carved greedily into power-of-two chunks, the largest one
// model length; the smallest fitting chunk is split; a freed chunk merges with its buddy.
//
//   983 blocks, largest chunk 128:  7 x 128 | 64 | 16 | 4 | 2 | 1
//
// Every chunk starts at a multiple of its length, because the carve goes downwards, so the buddy of
// the chunk of 2^k at `first` is at first ^ 2^k, as in any buddy system; a carved remainder has no
// buddy (its place lies past the end or holds smaller remainders) and never merges upwards.
#pragma once

#include <array>
#include <vector>

#include "baselines/arena.h"

namespace kvstow {

class BuddyArena final : public Arena {
 public:
  // largest: blocks of the largest chunk, rounded up to a power of two.
  BuddyArena(std::int64_t blocks, std::int64_t largest);

  BlockRun take(std::int64_t blocks) override;
  void give(BlockRun) override;
  [[nodiscard]] bool can_extend(BlockRun, std::int64_t blocks) const override;
  BlockRun extend(BlockRun, std::int64_t blocks) override;
  [[nodiscard]] std::int64_t granted(std::int64_t blocks) const override;
  [[nodiscard]] Bytes metadata() const override;
  void check() const override;

  // Free chunks of 2^order blocks.
  [[nodiscard]] std::int64_t free_chunks(int order) const;

 private:
  using Index = std::uint32_t;
  static constexpr Index kNone = ~Index{0};
  static constexpr int kOrders = 32;
  static constexpr std::uint8_t kNotFree = 0xff;

  // Node of a doubly linked list of free chunks of one order; [block], used at a chunk's first.
  struct Node {
    Index previous;
    Index next;
  };

  void insert(Index first, int order);
  void remove(Index first, int order);
  [[nodiscard]] bool is_free(Index first, int order) const {
    return first < static_cast<Index>(total_) && free_order_[first] == order;
  }

  int largest_order_;
  std::uint32_t nonempty_ = 0;            // bit k: some chunk of order k is free
  std::array<Index, kOrders> heads_;      // [order]
  std::vector<Node> nodes_;               // [block]
  std::vector<std::uint8_t> free_order_;  // [block] order of the free chunk that starts there
};

}  // namespace kvstow
