#include "baselines/buddy_arena.h"

#include <algorithm>
#include <bit>

#include "core/check.h"

namespace kvstow {
namespace {

int floor_log2(std::int64_t n) {
  return static_cast<int>(std::bit_width(static_cast<std::uint64_t>(n))) - 1;
}

// Order of the smallest power of two >= blocks.
int order_for(std::int64_t blocks) {
  return blocks <= 1 ? 0 : floor_log2(blocks - 1) + 1;
}

int order_of(BlockRun run) {
  return std::countr_zero(static_cast<std::uint64_t>(run.length));
}

}  // namespace

BuddyArena::BuddyArena(std::int64_t blocks, std::int64_t largest)
    : Arena(blocks),
      largest_order_(order_for(largest)),
      nodes_(static_cast<std::size_t>(blocks)),
      free_order_(static_cast<std::size_t>(blocks), kNotFree) {
  KVSTOW_CHECK(largest_order_ < kOrders && blocks < std::int64_t{kNone}, "arena too large");
  heads_.fill(kNone);
  std::vector<BlockRun> carved;
  for (std::int64_t first = 0; first < blocks;) {
    const int order = std::min(largest_order_, floor_log2(blocks - first));
    carved.push_back({first, std::int64_t{1} << order});
    first += carved.back().length;
  }
  // The lists are last-in-first-out: insert from the back so that low addresses leave first.
  for (auto run = carved.rbegin(); run != carved.rend(); ++run) {
    insert(static_cast<Index>(run->first), order_of(*run));
  }
}

void BuddyArena::insert(Index first, int order) {
  Index& head = heads_[static_cast<std::size_t>(order)];
  nodes_[first] = {kNone, head};
  if (head != kNone) nodes_[head].previous = first;
  head = first;
  free_order_[first] = static_cast<std::uint8_t>(order);
  nonempty_ |= 1u << order;
}

void BuddyArena::remove(Index first, int order) {
  Index& head = heads_[static_cast<std::size_t>(order)];
  const Node node = nodes_[first];
  if (node.previous != kNone)
    nodes_[node.previous].next = node.next;
  else
    head = node.next;
  if (node.next != kNone) nodes_[node.next].previous = node.previous;
  free_order_[first] = kNotFree;
  if (head == kNone) nonempty_ &= ~(1u << order);
}

BlockRun BuddyArena::take(std::int64_t blocks) {
  const int order = order_for(blocks);
  if (order > largest_order_) return {};
  const std::uint32_t fitting = nonempty_ & (~std::uint32_t{0} << order);
  if (fitting == 0) return {};
  int from = std::countr_zero(fitting);
  const Index first = heads_[static_cast<std::size_t>(from)];
  remove(first, from);
  while (from > order) {  // keep the lower half
    --from;
    insert(first + (Index{1} << from), from);
  }
  const BlockRun run{first, std::int64_t{1} << order};
  free_ -= run.length;
  return run;
}

void BuddyArena::give(BlockRun run) {
  Index first = static_cast<Index>(run.first);
  int order = order_of(run);
  free_ += run.length;
  while (order < largest_order_) {
    const Index buddy = first ^ (Index{1} << order);
    if (!is_free(buddy, order)) break;
    remove(buddy, order);
    first = std::min(first, buddy);
    ++order;
  }
  insert(first, order);
}

bool BuddyArena::can_extend(BlockRun run, std::int64_t blocks) const {
  const int wanted = order_for(blocks);
  if (wanted > largest_order_) return false;
  const Index first = static_cast<Index>(run.first);
  for (int order = order_of(run); order < wanted; ++order) {
    const Index half = Index{1} << order;
    if ((first & half) != 0 || !is_free(first + half, order))
      return false;  // must be the lower half
  }
  return true;
}

BlockRun BuddyArena::extend(BlockRun run, std::int64_t blocks) {
  const Index first = static_cast<Index>(run.first);
  for (int order = order_of(run); order < order_for(blocks); ++order) {
    remove(first + (Index{1} << order), order);
  }
  const BlockRun extended{run.first, std::max(run.length, granted(blocks))};
  free_ -= extended.length - run.length;
  return extended;
}

std::int64_t BuddyArena::granted(std::int64_t blocks) const {
  const int order = order_for(blocks);
  return order > largest_order_ ? 0 : std::int64_t{1} << order;
}

std::int64_t BuddyArena::free_chunks(int order) const {
  std::int64_t chunks = 0;
  for (Index first = heads_.at(static_cast<std::size_t>(order)); first != kNone;
       first = nodes_[first].next) {
    ++chunks;
  }
  return chunks;
}

Bytes BuddyArena::metadata() const {
  return Bytes(total_ * static_cast<std::int64_t>(sizeof(Node) + sizeof(std::uint8_t)));
}

void BuddyArena::check() const {
  std::int64_t listed = 0;
  std::vector<bool> covered(static_cast<std::size_t>(total_));
  for (int order = 0; order < kOrders; ++order) {
    const Index head = heads_[static_cast<std::size_t>(order)];
    KVSTOW_CHECK(((nonempty_ >> order) & 1u) == (head != kNone ? 1u : 0u),
                 "the mask knows which lists are empty");
    Index previous = kNone;
    for (Index first = head; first != kNone; first = nodes_[first].next) {
      const Index length = Index{1} << order;
      KVSTOW_CHECK(nodes_[first].previous == previous, "a list of chunks is linked both ways");
      KVSTOW_CHECK(first % length == 0 && std::int64_t{first} + length <= total_,
                   "a chunk starts at a multiple of its length, inside the pool");
      KVSTOW_CHECK(free_order_[first] == order, "a listed chunk is marked free");
      KVSTOW_CHECK(order == largest_order_ || !is_free(first ^ length, order),
                   "two free buddies are merged");
      for (Index b = first; b < first + length; ++b) {
        KVSTOW_CHECK(!covered[b], "free chunks do not overlap");
        covered[b] = true;
      }
      listed += length;
      previous = first;
    }
  }
  KVSTOW_CHECK(listed == free_, "free chunks add up to the free blocks");
  for (std::size_t b = 0; b < free_order_.size(); ++b) {
    KVSTOW_CHECK(free_order_[b] == kNotFree || covered[b], "a chunk marked free is listed");
  }
}

}  // namespace kvstow
