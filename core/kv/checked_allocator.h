// Proves an allocator while it runs: a shadow memory executes every MemPlan operation in order, and
// every sequence must read back, through its view, the tokens that were written for it.
//
// After every call (O(slots that changed)):
//  - copies do not overlap, read live tokens, and destroy none; freed slots were held and unread;
//  - slots that a sequence newly maps hold its tokens, and were read by nobody else before;
//  - views lie in the pool, and tables have as many blocks as they say;
//  - held, live (distinct) and logical of both tiers equal the shadow's own counts;
//  - a failed call left plan and statistics as they were; `never` means fits_empty_pool says no;
//  - the inner allocator's cheap invariants.
// check_invariants(full) reads every sequence back whole, and runs the inner allocator's full
// check. A violation throws InvariantError, which names the call with its arguments, the sequence,
// position and slot, and what is there instead.
//
// Tokens count as written when the call that made room for them returns, as they are once the step
// that holds the plan has run.
#pragma once

#include <array>
#include <string>
#include <vector>

#include "core/kv/forwarding_allocator.h"
#include "core/kv/shadow_tier.h"

namespace kvstow {

class CheckedAllocator final : public ForwardingAllocator {
 public:
  using ForwardingAllocator::ForwardingAllocator;

  AllocResult admit(const AdmitRequest&, MemPlan&) override;
  AllocStatus grow(std::span<const SeqId> group, Tokens new_length, MemPlan&) override;
  AllocStatus reorder(std::span<const Fork>, MemPlan&) override;
  AllocStatus swap_out(std::span<const SeqId> group, MemPlan&) override;
  AllocStatus swap_in(std::span<const SeqId> group, Tokens keep_free, MemPlan&) override;
  void release(SeqId, MemPlan&) override;
  void check_invariants(CheckLevel) const override;

 private:
  struct Sequence {
    std::vector<Content> tokens;  // what each position must read; empty = unknown
    std::vector<Slot> slots;      // where each position was last seen
    Tokens capacity{0};
    Tier tier = Tier::device;
  };
  struct Before {
    std::size_t ops;
    std::array<KvStats, 2> stats;
  };

  [[nodiscard]] ShadowTier& shadow(Tier tier) { return shadows_[static_cast<std::size_t>(tier)]; }
  [[nodiscard]] const ShadowTier& shadow(Tier tier) const {
    return shadows_[static_cast<std::size_t>(tier)];
  }
  [[nodiscard]] Sequence& at(SeqId);
  [[nodiscard]] Before before(const MemPlan&);
  void check_unchanged(const Before&, const MemPlan&) const;
  void check_stats() const;
  void check_content(SeqId, std::size_t position, Slot) const;
  [[nodiscard]] KvView checked_view(SeqId) const;

  // Parts of messages.
  [[nodiscard]] std::string place(SeqId, std::size_t position, Slot) const;
  [[nodiscard]] std::string token(Content) const;
  [[nodiscard]] std::string reader(Tier, Slot) const;
  [[noreturn]] void fail_in(const std::string& call, const InvariantError&) const;

  void unmap(SeqId);
  void map(SeqId);                       // checks that every token is there
  void hold(SeqId);                      // what stands behind the view now
  void write(SeqId, std::size_t first);  // stores and maps the tokens from `first` on
  void execute(const MemPlan&, std::size_t first_op);
  void move(std::span<const SeqId> group, Tier to, const MemPlan&, std::size_t first_op);

  std::array<ShadowTier, 2> shadows_;  // [tier]
  std::vector<Sequence> sequences_;    // [SeqId]
  std::array<Tokens, 2> logical_{};    // [tier] sum of lengths
  Content last_ = 0;
  std::int64_t calls_ = 0;  // so that a message can say which one it was
};

}  // namespace kvstow
