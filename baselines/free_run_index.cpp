#include "baselines/free_run_index.h"

#include <algorithm>
#include <bit>

namespace kvstow {

FirstFitIndex::FirstFitIndex(std::int64_t blocks)
    : leaves_(std::bit_ceil(static_cast<std::size_t>(std::max<std::int64_t>(blocks, 1)))),
      tree_(2 * leaves_, 0) {}

void FirstFitIndex::set(std::int64_t first, std::int64_t length) {
  std::size_t node = leaves_ + static_cast<std::size_t>(first);
  tree_[node] = static_cast<std::uint32_t>(length);
  while (node > 1) {
    node /= 2;
    const std::uint32_t longest = std::max(tree_[2 * node], tree_[2 * node + 1]);
    if (tree_[node] == longest) return;  // nothing changes further up
    tree_[node] = longest;
  }
}

std::int64_t FirstFitIndex::find(std::int64_t length) const {
  const auto wanted = static_cast<std::uint64_t>(length);
  if (tree_[1] < wanted) return kNoRun;
  std::size_t node = 1;
  while (node < leaves_) {
    node *= 2;
    if (tree_[node] < wanted) ++node;
  }
  return static_cast<std::int64_t>(node - leaves_);
}

Bytes FirstFitIndex::metadata() const {
  return Bytes(static_cast<std::int64_t>(tree_.size() * sizeof(tree_[0])));
}

BestFitIndex::BestFitIndex(std::int64_t blocks)
    : heads_(static_cast<std::size_t>(blocks + 1), kNone),
      nodes_(static_cast<std::size_t>(blocks)) {
  std::size_t bits = heads_.size();
  do {
    bits = (bits + 63) / 64;
    levels_.emplace_back(bits, 0);
  } while (bits > 1);
}

void BestFitIndex::insert(std::int64_t first, std::int64_t length) {
  const auto at = static_cast<std::size_t>(length);
  const auto run = static_cast<Index>(first);
  const Index head = heads_[at];
  nodes_[run] = {kNone, head};
  heads_[at] = run;
  if (head != kNone) {
    nodes_[head].previous = run;
    return;
  }
  std::size_t bit = at;
  for (std::vector<std::uint64_t>& level : levels_) {
    std::uint64_t& word = level[bit / 64];
    const bool was_empty = word == 0;
    word |= std::uint64_t{1} << (bit % 64);
    if (!was_empty) return;
    bit /= 64;
  }
}

void BestFitIndex::remove(std::int64_t first, std::int64_t length) {
  const auto at = static_cast<std::size_t>(length);
  const Node node = nodes_[static_cast<std::size_t>(first)];
  if (node.next != kNone) nodes_[node.next].previous = node.previous;
  if (node.previous != kNone) {
    nodes_[node.previous].next = node.next;
    return;
  }
  heads_[at] = node.next;
  if (node.next != kNone) return;
  std::size_t bit = at;
  for (std::vector<std::uint64_t>& level : levels_) {
    std::uint64_t& word = level[bit / 64];
    word &= ~(std::uint64_t{1} << (bit % 64));
    if (word != 0) return;
    bit /= 64;
  }
}

std::int64_t BestFitIndex::find(std::int64_t length) const {
  // Up until a word has a bit at or behind the place, then down to the lowest bit under it.
  std::size_t bit = static_cast<std::size_t>(length);
  if (bit >= heads_.size()) return kNoRun;
  for (std::size_t level = 0; level < levels_.size(); ++level) {
    if (bit / 64 >= levels_[level].size()) return kNoRun;
    const std::uint64_t behind = levels_[level][bit / 64] & (~std::uint64_t{0} << (bit % 64));
    if (behind == 0) {
      bit = bit / 64 + 1;  // the next word, as a bit of the level above
      continue;
    }
    bit = bit / 64 * 64 + static_cast<std::size_t>(std::countr_zero(behind));
    while (level-- > 0) {
      bit = bit * 64 + static_cast<std::size_t>(std::countr_zero(levels_[level][bit]));
    }
    return heads_[bit];
  }
  return kNoRun;
}

Bytes BestFitIndex::metadata() const {
  std::size_t bytes = heads_.size() * sizeof(Index) + nodes_.size() * sizeof(Node);
  for (const std::vector<std::uint64_t>& level : levels_) bytes += level.size() * sizeof(level[0]);
  return Bytes(static_cast<std::int64_t>(bytes));
}

}  // namespace kvstow
