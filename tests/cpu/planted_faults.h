// Memory managers with one bug each, planted around a correct one: what `kvstow verify` must catch.
#pragma once

#include <algorithm>
#include <map>
#include <memory>
#include <type_traits>
#include <vector>

#include "core/kv/forwarding_allocator.h"

namespace kvstow {

// Edits what the allocator inside says: the operations it appends to a plan, and its block tables.
// A fault counts how often it did something, since one that never struck proves nothing.
class Fault : public ForwardingAllocator {
 public:
  Fault(std::unique_ptr<KvAllocator> inner, int* strikes)
      : ForwardingAllocator(std::move(inner)), strikes_(*strikes) {}

  AllocResult admit(const AdmitRequest& r, MemPlan& plan) override {
    return edited(plan, [&] { return ForwardingAllocator::admit(r, plan); });
  }
  AllocStatus grow(std::span<const SeqId> group, Tokens length, MemPlan& plan) override {
    return edited(plan, [&] { return ForwardingAllocator::grow(group, length, plan); });
  }
  AllocStatus reorder(std::span<const Fork> forks, MemPlan& plan) override {
    return edited(plan, [&] { return ForwardingAllocator::reorder(forks, plan); });
  }
  AllocStatus swap_out(std::span<const SeqId> group, MemPlan& plan) override {
    return edited(plan, [&] { return ForwardingAllocator::swap_out(group, plan); });
  }
  AllocStatus swap_in(std::span<const SeqId> group, Tokens keep_free, MemPlan& plan) override {
    return edited(plan, [&] { return ForwardingAllocator::swap_in(group, keep_free, plan); });
  }

 protected:
  using Ops = std::vector<MemOp>;

  // `ops` are those of the plan; the ones from `fresh` on were appended by this call.
  virtual void edit(Ops& ops, std::size_t fresh) {
    (void)ops;
    (void)fresh;
  }
  void strike() const { ++strikes_; }

  // A block table of our own, as a view.
  [[nodiscard]] KvView with_table(KvView view, std::vector<BlockId> table, SeqId seq) const {
    auto& kept = tables_[seq];
    kept = std::move(table);
    view.blocks = kept;
    return view;
  }
  [[nodiscard]] static std::vector<BlockId> table_of(const KvView& view) {
    return {view.blocks.begin(), view.blocks.end()};
  }

 private:
  template <class Call>
  std::invoke_result_t<Call> edited(MemPlan& plan, Call call) {
    const std::size_t fresh = plan.ops().size();
    const auto result = call();
    Ops ops = plan.ops();
    edit(ops, fresh);
    plan.clear();
    for (const MemOp& op : ops) plan.append(op);
    return result;
  }

  int& strikes_;
  mutable std::map<SeqId, std::vector<BlockId>> tables_;
};

// ---- plans -----------------------------------------------------------------------------------

template <MemOpKind kKind>
class LostOperation final : public Fault {
  using Fault::Fault;
  void edit(Ops& ops, std::size_t fresh) override {
    const auto lost = std::remove_if(ops.begin() + static_cast<std::ptrdiff_t>(fresh), ops.end(),
                                     [](const MemOp& op) { return op.kind == kKind; });
    if (lost != ops.end()) strike();
    ops.erase(lost, ops.end());
  }
};

class ShortCopy final : public Fault {
  using Fault::Fault;
  void edit(Ops& ops, std::size_t fresh) override {
    for (std::size_t i = fresh; i < ops.size(); ++i) {
      if (ops[i].kind != MemOpKind::copy) continue;
      ops[i].length -= Tokens(1);
      strike();
    }
  }
};

// The latest operations first.
class OutOfOrder final : public Fault {
  using Fault::Fault;
  void edit(Ops& ops, std::size_t fresh) override {
    if (fresh > 0 && ops.size() > fresh) strike();
    std::rotate(ops.begin(), ops.begin() + static_cast<std::ptrdiff_t>(fresh), ops.end());
  }
};

// The blocks arrive, but the first and the last in each other's place.
class SwapInToWrongBlocks final : public Fault {
 public:
  SwapInToWrongBlocks(std::unique_ptr<KvAllocator> inner, int* strikes, Tokens block)
      : Fault(std::move(inner), strikes), block_(block) {}

 private:
  void edit(Ops& ops, std::size_t fresh) override {
    Ops kept(ops.begin(), ops.begin() + static_cast<std::ptrdiff_t>(fresh));
    Ops blocks;
    for (std::size_t i = fresh; i < ops.size(); ++i) {
      if (ops[i].kind != MemOpKind::swap_in) {
        kept.push_back(ops[i]);
        continue;
      }
      for (Tokens at(0); at < ops[i].length; at += block_) {
        blocks.push_back({MemOpKind::swap_in, ops[i].src + at, ops[i].dst + at,
                          min(block_, ops[i].length - at)});
      }
    }
    if (blocks.size() > 1) {
      std::swap(blocks.front().dst, blocks.back().dst);
      strike();
    }
    kept.insert(kept.end(), blocks.begin(), blocks.end());
    ops = std::move(kept);
  }

  Tokens block_;
};

// ---- tables and extents ------------------------------------------------------------------------

// A shared last block is written in place: the copy is not made, and the table keeps the old block.
class NoCopyOnWrite final : public Fault {
  using Fault::Fault;
  void edit(Ops& ops, std::size_t fresh) override {
    for (std::size_t i = ops.size(); i-- > fresh;) {
      if (ops[i].kind != MemOpKind::copy) continue;
      instead_of_[ops[i].dst] = ops[i].src;
      ops.erase(ops.begin() + static_cast<std::ptrdiff_t>(i));
      strike();
    }
  }
  [[nodiscard]] KvView view(SeqId seq) const override {
    const KvView view = Fault::view(seq);
    std::vector<BlockId> table = table_of(view);
    for (BlockId& block : table) {
      const auto found = instead_of_.find(Slot(block.index() * view.block_tokens.count()));
      if (found != instead_of_.end()) {
        block =
            BlockId(static_cast<BlockId::Rep>(found->second.index() / view.block_tokens.count()));
      }
    }
    return with_table(view, std::move(table), seq);
  }

  std::map<Slot, Slot> instead_of_;
};

class WrongLastBlock final : public Fault {
  using Fault::Fault;
  [[nodiscard]] KvView view(SeqId seq) const override {
    const KvView view = Fault::view(seq);
    std::vector<BlockId> table = table_of(view);
    if (table.size() < 2) return view;
    strike();
    table.back() = table[table.size() - 2];
    return with_table(view, std::move(table), seq);
  }
};

// Every other sequence starts one slot late, in what may be its neighbour's extent.
class OffByOneSlot final : public Fault {
  using Fault::Fault;
  [[nodiscard]] KvView view(SeqId seq) const override {
    KvView view = Fault::view(seq);
    if (seq.index() % 2 == 0 ||
        view.first + view.capacity == Slot(stats(Tier::device).capacity.count())) {
      return view;
    }
    strike();
    view.first = view.first + Tokens(1);
    return view;
  }
};

// A block that a running sequence still maps is given to the next one.
class FreedTooEarly final : public Fault {
  using Fault::Fault;
  AllocResult admit(const AdmitRequest& request, MemPlan& plan) override {
    const AllocResult result = Fault::admit(request, plan);
    if (result.status != AllocStatus::ok) return result;
    const SeqId seq = request.group.front();
    if (running_.valid() && running_ != seq) stolen_[seq] = Fault::view(running_).blocks.front();
    running_ = seq;
    return result;
  }
  void release(SeqId seq, MemPlan& plan) override {
    if (seq == running_) running_ = SeqId();
    stolen_.erase(seq);
    Fault::release(seq, plan);
  }
  [[nodiscard]] KvView view(SeqId seq) const override {
    const KvView view = Fault::view(seq);
    const auto found = stolen_.find(seq);
    if (found == stolen_.end()) return view;
    strike();
    std::vector<BlockId> table = table_of(view);
    table.back() = found->second;
    return with_table(view, std::move(table), seq);
  }

  SeqId running_;
  std::map<SeqId, BlockId> stolen_;
};

// After it has come back from the host, a sequence is read where it was before.
class StaleTableAfterSwap final : public Fault {
  using Fault::Fault;
  AllocStatus swap_out(std::span<const SeqId> group, MemPlan& plan) override {
    std::map<SeqId, std::vector<BlockId>> before;
    for (const SeqId seq : group) before[seq] = table_of(Fault::view(seq));
    const AllocStatus status = Fault::swap_out(group, plan);
    if (status == AllocStatus::ok) {
      for (auto& [seq, table] : before) stale_[seq] = std::move(table);
    }
    return status;
  }
  void release(SeqId seq, MemPlan& plan) override {
    stale_.erase(seq);
    Fault::release(seq, plan);
  }
  [[nodiscard]] KvView view(SeqId seq) const override {
    const KvView view = Fault::view(seq);
    const auto found = stale_.find(seq);
    if (found == stale_.end()) return view;
    std::vector<BlockId> table = table_of(view);
    const std::size_t common = std::min(table.size(), found->second.size());
    if (!std::equal(table.begin(), table.begin() + static_cast<std::ptrdiff_t>(common),
                    found->second.begin())) {
      strike();
    }
    std::copy_n(found->second.begin(), common, table.begin());
    return with_table(view, std::move(table), seq);
  }

  std::map<SeqId, std::vector<BlockId>> stale_;
};

// Two chunks are merged although one of them is still in use: who gets the pair starts at its base.
class WrongMerge final : public Fault {
  using Fault::Fault;
  [[nodiscard]] KvView view(SeqId seq) const override {
    KvView view = Fault::view(seq);
    const std::int64_t pair = 2 * view.capacity.count();
    if (seq.index() % 2 == 0 || view.first.index() % pair == 0) return view;
    strike();
    view.first = Slot(view.first.index() / pair * pair);
    return view;
  }
};

// ---- bookkeeping -------------------------------------------------------------------------------

class LeakedReference final : public Fault {
  using Fault::Fault;
  void release(SeqId seq, MemPlan& plan) override {
    if (released_++ == 4) return strike();
    Fault::release(seq, plan);
  }
  int released_ = 0;
};

// A beam that died keeps its own tokens.
class LostFork final : public Fault {
  using Fault::Fault;
  AllocStatus reorder(std::span<const Fork> forks, MemPlan& plan) override {
    strike();
    return Fault::reorder(forks.first(forks.size() - 1), plan);
  }
};

// A prefix one token longer than it is: that token's K and V are never computed.
class PrefixTooLong final : public Fault {
  using Fault::Fault;
  AllocResult admit(const AdmitRequest& request, MemPlan& plan) override {
    AllocResult result = Fault::admit(request, plan);
    if (result.status == AllocStatus::ok && result.cached > Tokens(0)) {
      result.cached += Tokens(1);
      strike();
    }
    return result;
  }
};

}  // namespace kvstow
