// PagedAttention's memory manager (Kwon et al., SOSP 2023, sections 4.2-4.5): block tables over a
// pool of equal blocks, reference counts, copy-on-write.
//
// The rules of the authors' artifact:
//  - A group is admitted when free - needed >= keep_free, counted in blocks.
//  - grow refuses while fewer blocks are free than the group has sequences, even where none of them
//    opens a block (a growth that changes nothing is always ok).
//  - swap_in needs free - (blocks + sequences) >= keep_free: the group grows right after.
//  - Hence fits_empty_pool: blocks at full length, unshared, + sequences + keep_free <= pool. Then
//    a lone group can always grow to its end, and come back after a swap.
//
// Sharing. Samples of a prompt share all its blocks; a prefix lends its whole blocks by reference
// and the tokens of its last, partial one as a copy (cached = prefix_tokens; a caller who wants
// vLLM's trimmed prefixes rounds prefix_tokens down to whole blocks). A prefix on the host lends
// nothing. Writing into a shared last block copies its filled tokens first. Blocks that leave for
// the host are copied even where a sequence outside the group still uses them on the device.
//
// Two facts the code rests on, checked by check_invariants(full):
//  - Sequences that share a partial block have one length (whoever grows leaves it first), so a
//    block's fill follows from any of its owners and distinct live slots need no per-block counter.
//  - Sharing is a trie: tables that share block i share all blocks before it at the same positions.
//    A beam step therefore finds where two tables part by a search from the back.
#pragma once

#include <cstdint>
#include <vector>

#include "core/kv/block_pool.h"
#include "core/kv/block_size.h"
#include "core/kv/kv_allocator.h"

namespace kvstow {

class PagedAllocator final : public KvAllocator {
 public:
  // Pools are floored to whole blocks. Throws InputError where block_tokens < 1.
  explicit PagedAllocator(const PoolConfig&);

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
  [[nodiscard]] std::string_view name() const override { return "paged"; }

 private:
  using Count = std::int32_t;  // tokens or blocks of one sequence

  struct Sequence {
    Count length = 0;    // tokens; 0 = unknown to the allocator
    Count writable = 0;  // may grow to here without opening or copying a block; >= length
    Tier tier = Tier::device;
    std::vector<BlockId> table;  // ceil(length / block_tokens) blocks; memory kept after release
  };

  struct TierState {
    explicit TierState(Blocks blocks) : pool(blocks) {}
    BlockPool pool;
    std::int64_t live = 0;           // distinct filled slots
    std::int64_t logical = 0;        // sum of lengths
    std::int64_t table_entries = 0;  // sum of table sizes
  };

  [[nodiscard]] Count blocks_for(std::int64_t tokens) const {
    return static_cast<Count>(block_.blocks_for(tokens));
  }
  // Filled slots of block `position` of a table of `length` tokens.
  [[nodiscard]] Count fill(std::size_t position, Count length) const {
    const Count before = static_cast<Count>(position) * block_tokens_;
    return length - before < block_tokens_ ? length - before : block_tokens_;
  }
  [[nodiscard]] Slot slot_of(BlockId b) const {
    return Slot(static_cast<std::int64_t>(b.index()) * block_tokens_);
  }
  [[nodiscard]] TierState& tier(Tier t) { return t == Tier::device ? device_ : host_; }
  [[nodiscard]] const TierState& tier(Tier t) const { return t == Tier::device ? device_ : host_; }
  [[nodiscard]] Sequence& known(SeqId);
  [[nodiscard]] const Sequence& known(SeqId) const;
  [[nodiscard]] const Sequence* lender(const AdmitRequest&) const;
  [[nodiscard]] static std::size_t common_blocks(std::span<const BlockId>,
                                                 std::span<const BlockId>);

  AllocStatus grow_slow(std::span<const SeqId> group, Count new_length, MemPlan&);
  AllocStatus move(std::span<const SeqId> group, Tier from, Tier to, std::int64_t spare, MemPlan&);
  // Adds to the plan that the blocks freed since `free_before` were free are free.
  void plan_frees(Tier, std::int64_t free_before, MemPlan&) const;
  void check_tier(Tier) const;

  BlockSize block_;
  Count block_tokens_;
  TierState device_;
  TierState host_;
  std::vector<Sequence> sequences_;  // [SeqId]

  // Scratch of one call, kept so that steady state allocates nothing.
  std::vector<SeqId> to_copy_;       // grow: sequences that must copy their last block
  std::vector<BlockId> taken_over_;  // reorder: what each child takes over, fork after fork
  std::vector<std::size_t> common_;  // reorder: blocks that parent and child share already
  std::vector<BlockId> moved_;       // move: [source block] its destination
};

}  // namespace kvstow
