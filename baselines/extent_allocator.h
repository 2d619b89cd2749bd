// The pre-paged memory managers: every sequence reserves one run of slots for its whole expected
// length when it is admitted (PagedAttention paper, section 3: FasterTransformer and Orca). Which
// run is the arena's business: buddy, first fit, best fit.
//
//  - A request is rounded up to block_tokens, then as the arena rounds (buddy: to a power of two).
//  - Each member of a group has an extent of its own and stores the prompt itself: share_prompt and
//    prefixes are ignored, cached = 0.
//  - ok where every member gets a run and keep_free blocks stay free; no_memory where the group's
//    blocks (before the arena's rounding) plus keep_free are not free; fragmented otherwise.
//  - grow inside the extent is a counter. Beyond it the extent is extended in place, or the call
//    fails: nothing is ever relocated in silence.
//  - reorder copies the parent's whole K and V into the child's extent. Copies are ordered so that
//    a parent is read before it is overwritten (chains run leaf first). What remains are pure
//    cycles, in which every beam lives on under another name: their extents are exchanged, without
//    a copy and without scratch memory, so reorder never fails.
//  - On the host a group holds its filled blocks only; swap_in reserves the expected length again.
#pragma once

#include <memory>
#include <vector>

#include "baselines/arena.h"
#include "core/kv/block_size.h"
#include "core/kv/kv_allocator.h"

namespace kvstow {

class ExtentAllocator final : public KvAllocator {
 public:
  // The arenas manage floor(slots / block_tokens) blocks of their tier.
  ExtentAllocator(std::string_view name, BlockSize, std::unique_ptr<Arena> device,
                  std::unique_ptr<Arena> host);

  [[nodiscard]] bool fits_empty_pool(const AdmitRequest&) const override;
  AllocResult admit(const AdmitRequest&, MemPlan&) override;
  AllocStatus grow(std::span<const SeqId> group, Tokens new_length, MemPlan&) override;
  AllocStatus reorder(std::span<const Fork>, MemPlan&) override;
  AllocStatus swap_out(std::span<const SeqId> group, MemPlan&) override;
  AllocStatus swap_in(std::span<const SeqId> group, Tokens keep_free, MemPlan&) override;
  void release(SeqId, MemPlan&) override;
  [[nodiscard]] KvView view(SeqId) const override;
  [[nodiscard]] KvStats stats(Tier) const override;
  void check_invariants(CheckLevel) const override;
  [[nodiscard]] std::string_view name() const override { return name_; }

 private:
  struct Sequence {
    std::int64_t length = 0;    // tokens; 0 = unknown to the allocator
    std::int64_t capacity = 0;  // slots of the run
    BlockRun run;               // blocks, in `tier`
    std::int64_t expected = 0;  // blocks asked for on the device
    Tier tier = Tier::device;
    SeqId parent;               // reorder: its parent while the copy is still to come
    std::uint32_t readers = 0;  // reorder: children that still read this sequence
  };

  struct TierState {
    std::unique_ptr<Arena> arena;
    std::int64_t logical = 0;  // sum of lengths; extents share nothing, so also the live slots
    std::int64_t sequences = 0;
  };

  [[nodiscard]] TierState& tier(Tier t) { return t == Tier::device ? device_ : host_; }
  [[nodiscard]] const TierState& tier(Tier t) const { return t == Tier::device ? device_ : host_; }
  [[nodiscard]] Sequence& known(SeqId);
  [[nodiscard]] const Sequence& known(SeqId) const;
  [[nodiscard]] Slot slot_of(BlockRun run) const { return Slot(run.first * block_.tokens()); }
  [[nodiscard]] Tokens tokens_of(BlockRun run) const {
    return Tokens(run.length * block_.tokens());
  }

  [[nodiscard]] bool fits_empty_pool(std::int64_t members, std::int64_t blocks,
                                     std::int64_t keep_free) const;
  template <class BlocksOf>
  AllocStatus take_runs(Arena&, std::size_t members, BlocksOf, std::int64_t keep_free);
  AllocStatus grow_beyond(std::span<const SeqId> group, std::int64_t new_length);
  AllocStatus move(std::span<const SeqId> group, Tier from, Tier to, std::int64_t keep_free,
                   MemPlan&);

  std::string_view name_;
  BlockSize block_;
  TierState device_;
  TierState host_;
  std::vector<Sequence> sequences_;  // [SeqId]

  // What take_runs got, by member; kept so that steady state allocates nothing.
  std::vector<BlockRun> runs_;
};

}  // namespace kvstow
