// The two searches of a contiguous arena: each holds the free runs, by their first block.
#pragma once

#include <cstdint>
#include <vector>

#include "core/types.h"

namespace kvstow {

inline constexpr std::int64_t kNoRun = -1;

// First fit: a complete binary tree whose leaf `b` is the length of the free run that starts at
// block b (0: none), every inner node the maximum of its two.
class FirstFitIndex {
 public:
  explicit FirstFitIndex(std::int64_t blocks);
  void insert(std::int64_t first, std::int64_t length) { set(first, length); }
  void remove(std::int64_t first, std::int64_t /*length*/) { set(first, 0); }
  // First block of the lowest run of at least `length` blocks, or kNoRun.
  [[nodiscard]] std::int64_t find(std::int64_t length) const;
  [[nodiscard]] Bytes metadata() const;

 private:
  void set(std::int64_t first, std::int64_t length);

  std::size_t leaves_;               // a power of two
  std::vector<std::uint32_t> tree_;  // [1] root, [2n] and [2n + 1] children of [n]
};

// Best fit: a doubly linked list of runs per length, and a 64-ary tree of bitmaps over the lengths
// that have any.
class BestFitIndex {
 public:
  explicit BestFitIndex(std::int64_t blocks);
  void insert(std::int64_t first, std::int64_t length);
  void remove(std::int64_t first, std::int64_t length);
  // First block of a run of the smallest length >= `length`, or kNoRun.
  [[nodiscard]] std::int64_t find(std::int64_t length) const;
  [[nodiscard]] Bytes metadata() const;

 private:
  using Index = std::uint32_t;
  static constexpr Index kNone = ~Index{0};

  struct Node {
    Index previous;
    Index next;
  };

  std::vector<Index> heads_;  // [length]
  std::vector<Node> nodes_;   // [block]
  std::vector<std::vector<std::uint64_t>>
      levels_;  // [0] a bit per length, [k + 1] a bit per word of [k]
};

}  // namespace kvstow
