// Splits what an allocator holds into the classes of the waste ledger, and asserts that it closes.
// The allocator knows what is held and filled; only here are the true lengths known as well.
#pragma once

#include <span>
#include <vector>

#include "core/engine/sequence_group.h"
#include "core/kv/kv_allocator.h"
#include "core/metrics/events.h"

namespace kvstow {

class WasteLedger {
 public:
  explicit WasteLedger(const KvAllocator& allocator) : allocator_(allocator) {}

  struct Account {
    LedgerRow row;
    Tokens mapped{0};   // slots mapped by all sequences, a shared one once for each
    Tokens logical{0};  // sum of the lengths of all sequences
  };

  // The device tier, with these groups and prefix holders on it, before the step's tokens are
  // counted into the groups. O(sequences). Throws InvariantError where the classes do not add up to
  // the tier.
  [[nodiscard]] Account device(std::span<SequenceGroup* const> resident,
                               std::span<SequenceGroup* const> prefix_holders);

 private:
  struct Tails {
    Tokens reserved{0};
    Tokens internal{0};
    Tokens rounding{0};
    Tokens lingering{0};
    Tokens mapped{0};
    // Of prompts taken in whole, the tokens whose turn is yet to come: their slots, and as many as
    // the sequences have, a shared one once for each.
    Tokens pending{0};
    Tokens pending_of_each{0};
  };
  static void add(const GroupTail& tail, Tokens filled, Tails& sum) {
    sum.reserved += tail.reserved_until - filled * tail.owners;
    sum.internal += tail.internal;
    sum.rounding += tail.rounding;
    sum.lingering += tail.lingering;
    sum.mapped += tail.mapped;
  }
  // Into the group's tail; what is pending into the sum, for a group is measured while any is.
  void measure(SequenceGroup&, Tails& sum);
  [[nodiscard]] bool first_to_own(const KvView&, Tokens length);

  const KvAllocator& allocator_;
  // A partly filled block shared by several sequences has one tail, which is counted once: the
  // account in which a block's tail was last seen, by block.
  std::vector<std::uint64_t> tail_seen_;
  std::uint64_t account_ = 0;
};

}  // namespace kvstow
