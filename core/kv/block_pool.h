// The blocks of one tier: reference counts and a last-in-first-out free list (as vLLM's, SOSP
// 2023). Knows nothing of sequences or tokens; block_tokens only turns block ids into slots.
//
// A block is free (references == 0, on the list once) or used (references >= 1, not on the list).
#pragma once

#include <cstdint>
#include <vector>

#include "core/check.h"
#include "core/types.h"

namespace kvstow {

class BlockPool {
 public:
  explicit BlockPool(Blocks blocks) : references_(static_cast<std::size_t>(blocks.count()), 0) {
    free_.reserve(references_.size());
    for (std::size_t i = references_.size(); i > 0; --i) {
      free_.push_back(BlockId(static_cast<BlockId::Rep>(i - 1)));  // block 0 leaves first
    }
  }

  [[nodiscard]] std::int64_t total() const { return static_cast<std::int64_t>(references_.size()); }
  [[nodiscard]] std::int64_t free() const { return static_cast<std::int64_t>(free_.size()); }
  [[nodiscard]] std::int64_t used() const { return total() - free(); }
  [[nodiscard]] std::uint32_t references(BlockId b) const { return references_[b.index()]; }
  [[nodiscard]] const std::vector<BlockId>& free_list() const { return free_; }

  // A block with one reference. REQUIRES: free() > 0.
  [[nodiscard]] BlockId take() {
    KVSTOW_DCHECK(!free_.empty(), "no free block");
    const BlockId block = free_.back();
    free_.pop_back();
    references_[block.index()] = 1;
    return block;
  }

  void share(BlockId b) {
    KVSTOW_DCHECK(references_[b.index()] > 0, "sharing a free block");
    ++references_[b.index()];
  }

  // Gives up one reference; true where it was the last and the block is free again.
  bool drop(BlockId b) {
    KVSTOW_DCHECK(references_[b.index()] > 0, "dropping a free block");
    if (--references_[b.index()] > 0) return false;
    free_.push_back(b);
    return true;
  }

  [[nodiscard]] Bytes metadata() const {
    return Bytes(total() * static_cast<std::int64_t>(sizeof(std::uint32_t) + sizeof(BlockId)));
  }

 private:
  std::vector<std::uint32_t> references_;  // [block]
  std::vector<BlockId> free_;              // back() leaves next
};

}  // namespace kvstow
