#include "core/engine/waste_ledger.h"

#include "core/check.h"

namespace kvstow {

// Whether this sequence's last, partly filled block has not been counted in this account yet.
bool WasteLedger::first_to_own(const KvView& view, Tokens length) {
  if (view.is_extent()) return true;
  const auto last = static_cast<std::size_t>((length - Tokens(1)) / view.block_tokens);
  const std::size_t block = view.blocks[last].index();
  if (block >= tail_seen_.size()) tail_seen_.resize(block + 1, 0);
  if (tail_seen_[block] == account_) return false;
  tail_seen_[block] = account_;
  return true;
}

WasteLedger::Account WasteLedger::device(std::span<SequenceGroup* const> resident,
                                         std::span<SequenceGroup* const> prefix_holders) {
  ++account_;
  Tails tails;
  for (SequenceGroup* group : resident) {
    if (group->length > group->tail.valid_to) [[unlikely]]
      measure(*group, tails);
    add(group->tail, group->length, tails);
  }
  for (SequenceGroup* holder : prefix_holders) {
    measure(*holder, tails);
    add(holder->tail, holder->length, tails);
  }
  const KvStats stats = allocator_.stats(Tier::device);
  const Account account{.row = {.live = stats.live - tails.lingering - tails.pending,
                                .reserved = tails.reserved,
                                .internal = tails.internal,
                                .rounding = tails.rounding,
                                .cached = stats.cached,
                                .in_transit = stats.in_transit,
                                .free = stats.free()},
                        .mapped = tails.mapped,
                        .logical = stats.logical - tails.pending_of_each};
  KVSTOW_CHECK(account.row.sum() == stats.capacity, "the waste ledger does not close");
  return account;
}

// Looks at what the group's sequences hold.
void WasteLedger::measure(SequenceGroup& group, Tails& sum) {
  const Tokens filled = group.length;
  GroupTail& tail = group.tail;
  tail = {};
  if (group.lingers()) {
    // A member of a static batch that waits for the others: all it holds is waste.
    for (const SeqId seq : group.sequences) tail.mapped += allocator_.view(seq).capacity;
    tail.internal = tail.mapped;
    tail.lingering = filled * group.width();
    return;
  }
  const Tokens to_fill = group.true_total() - filled;
  const Tokens asked = group.expected_total - filled;
  const Tokens pending = min(group.to_compute(), to_fill);
  const bool may_share = group.width() > 1 || group.request.prefix.valid();
  for (const SeqId seq : group.sequences) {
    const KvView view = allocator_.view(seq);
    tail.mapped += view.capacity;
    if (may_share && !first_to_own(view, filled)) continue;
    const Tokens empty = view.capacity - filled;
    const Tokens reserved = min(to_fill, empty);
    const Tokens requested = min(max(asked, reserved), empty);
    tail.reserved_until += filled + reserved;
    tail.internal += requested - reserved;
    tail.rounding += empty - requested;
    sum.pending += pending;
    ++tail.owners;
  }
  sum.pending_of_each += pending * group.width();
  // A sequence that shares nothing holds the same slots until it has filled them: growing turns one
  // reserved slot into a live one and leaves the rest as it is.
  if (!may_share && pending == Tokens(0)) tail.valid_to = tail.mapped;
}

}  // namespace kvstow
