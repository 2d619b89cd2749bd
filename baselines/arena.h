// Placement alone: which run of blocks an extent gets. Knows nothing of sequences or tokens. The
// group semantics around it are baselines/extent_allocator.h.
#pragma once

#include <cstdint>

#include "core/types.h"

namespace kvstow {

// Blocks [first, first + length) of a tier; length 0 is no run.
struct BlockRun {
  std::int64_t first = 0;
  std::int64_t length = 0;

  explicit operator bool() const { return length > 0; }

  friend bool operator==(const BlockRun&, const BlockRun&) = default;
};

// Undoing takes in reverse order with give() restores the state exactly, so that an all-or-nothing
// caller can roll back.
class Arena {
 public:
  virtual ~Arena() = default;

  // A run of granted(blocks) blocks, or no run where none that is free can hold it. REQUIRES:
  // blocks > 0.
  virtual BlockRun take(std::int64_t blocks) = 0;
  // Takes back a whole run, merging it with free neighbours.
  virtual void give(BlockRun) = 0;

  // Whether `run` can become a run of granted(blocks) without moving, and its becoming so. The
  // extensions of two different runs never stand in each other's way.
  [[nodiscard]] virtual bool can_extend(BlockRun, std::int64_t blocks) const = 0;
  virtual BlockRun extend(BlockRun, std::int64_t blocks) = 0;

  // Length of the run that a request gets: at least `blocks`; 0 where no arena of this kind grants
  // it. An empty arena holds any number of equal runs that together are no longer than total().
  [[nodiscard]] virtual std::int64_t granted(std::int64_t blocks) const = 0;

  [[nodiscard]] std::int64_t total() const { return total_; }
  [[nodiscard]] std::int64_t free() const { return free_; }
  [[nodiscard]] virtual Bytes metadata() const = 0;
  // Throws InvariantError where the free runs do not add up, overlap, or are not merged.
  virtual void check() const = 0;

 protected:
  explicit Arena(std::int64_t blocks) : total_(blocks), free_(blocks) {}

  const std::int64_t total_;
  std::int64_t free_;
};

}  // namespace kvstow
