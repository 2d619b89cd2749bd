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

void WasteLedger::add_group(const SequenceGroup& group, Account& account) {
  LedgerRow& row = account.row;
  const Tokens filled = group.length;
  const Tokens to_fill = group.true_total() - filled;
  const Tokens asked = group.expected_total - filled;
  const bool may_share = group.sequences.size() > 1 || group.request.prefix.valid();
  for (const SeqId seq : group.sequences) {
    const KvView view = allocator_.view(seq);
    account.mapped += view.capacity;
    if (may_share && !first_to_own(view, filled)) continue;
    const Tokens tail = view.capacity - filled;
    if (group.lingers()) {  // a member of a static batch that waits for the others: all of it is
                            // waste
      row.live -= filled;
      row.internal += view.capacity;
      continue;
    }
    const Tokens reserved = min(max(to_fill, Tokens(0)), tail);
    const Tokens requested = min(max(asked, reserved), tail);
    row.reserved += reserved;
    row.internal += requested - reserved;
    row.rounding += tail - requested;
  }
}

WasteLedger::Account WasteLedger::device(std::span<SequenceGroup* const> resident,
                                         std::span<SequenceGroup* const> prefix_holders) {
  ++account_;
  Account account;
  const KvStats stats = allocator_.stats(Tier::device);
  LedgerRow& row = account.row;
  row.live = stats.live;
  row.cached = stats.cached;
  row.in_transit = stats.in_transit;
  row.free = stats.free();
  account.logical = stats.logical;
  for (const SequenceGroup* group : resident) add_group(*group, account);
  for (const SequenceGroup* holder : prefix_holders) add_group(*holder, account);
  KVSTOW_CHECK(row.sum() == stats.capacity, "the waste ledger does not close");
  return account;
}

}  // namespace kvstow
