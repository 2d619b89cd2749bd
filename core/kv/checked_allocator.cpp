#include "core/kv/checked_allocator.h"

#include <algorithm>
#include <cstdlib>

namespace kvstow {
namespace {

constexpr std::array<Tier, 2> kTiers = {Tier::device, Tier::host};

bool same(const KvStats& a, const KvStats& b) {
  return a.capacity == b.capacity && a.held == b.held && a.live == b.live &&
         a.logical == b.logical && a.cached == b.cached && a.in_transit == b.in_transit &&
         a.metadata == b.metadata;
}

Tokens length_of(const std::vector<Content>& tokens) {
  return Tokens(static_cast<std::int64_t>(tokens.size()));
}

}  // namespace

CheckedAllocator::Sequence& CheckedAllocator::at(SeqId id) {
  if (id.index() >= sequences_.size()) sequences_.resize(id.index() + 1);
  return sequences_[id.index()];
}

CheckedAllocator::Before CheckedAllocator::before(const MemPlan& plan) const {
  return {plan.ops().size(), {stats(Tier::device), stats(Tier::host)}};
}

void CheckedAllocator::check_unchanged(const Before& before, const MemPlan& plan) const {
  KVSTOW_CHECK(plan.ops().size() == before.ops, "a failed call changed the plan");
  for (const Tier tier : kTiers) {
    KVSTOW_CHECK(same(stats(tier), before.stats[static_cast<std::size_t>(tier)]),
                 "a failed call changed the statistics");
  }
}

void CheckedAllocator::check_stats() const {
  for (const Tier tier : kTiers) {
    const KvStats stats = this->stats(tier);
    KVSTOW_CHECK(stats.logical == logical_[static_cast<std::size_t>(tier)],
                 "logical is the sum of the sequences' lengths");
    KVSTOW_CHECK(stats.live == shadow(tier).live(), "live is the number of distinct filled slots");
    KVSTOW_CHECK(stats.held == shadow(tier).held(), "held is the number of slots behind the views");
    KVSTOW_CHECK(stats.free() >= Tokens(0), "the classes of a tier exceed its capacity");
  }
  ForwardingAllocator::check_invariants(CheckLevel::cheap);
}

void CheckedAllocator::unmap(SeqId id) {
  const Sequence& sequence = at(id);
  for (const Slot slot : sequence.slots) shadow(sequence.tier).unmap(slot);
}

void CheckedAllocator::map(SeqId id) {
  Sequence& sequence = at(id);
  const KvView view = this->view(id);
  KVSTOW_CHECK(view.capacity >= length_of(sequence.tokens), "a view is shorter than its sequence");
  sequence.slots.clear();
  for (std::size_t p = 0; p < sequence.tokens.size(); ++p) {
    const Slot slot = view.slot(Tokens(static_cast<std::int64_t>(p)));
    shadow(sequence.tier).map(slot, sequence.tokens[p]);
    sequence.slots.push_back(slot);
  }
}

void CheckedAllocator::hold(SeqId id) {
  Sequence& sequence = at(id);
  const KvView view = this->view(id);
  sequence.capacity = view.capacity;
  for (Tokens p(0); p < view.capacity; ++p) shadow(sequence.tier).hold(view.slot(p));
}

void CheckedAllocator::write(SeqId id, std::size_t first) {
  Sequence& sequence = at(id);
  const KvView view = this->view(id);
  KVSTOW_CHECK(view.capacity >= length_of(sequence.tokens), "a view is shorter than its sequence");
  for (std::size_t p = first; p < sequence.tokens.size(); ++p) {
    const Slot slot = view.slot(Tokens(static_cast<std::int64_t>(p)));
    shadow(sequence.tier).store(slot, sequence.tokens[p]);
    shadow(sequence.tier).map(slot, sequence.tokens[p]);
    sequence.slots.push_back(slot);
  }
}

void CheckedAllocator::execute(const MemPlan& plan, std::size_t first_op) {
  for (std::size_t i = first_op; i < plan.ops().size(); ++i) {
    const MemOp& op = plan.ops()[i];
    if (is_free(op.kind)) {
      const Tier tier = op.kind == MemOpKind::free_device ? Tier::device : Tier::host;
      for (Tokens p(0); p < op.length; ++p) shadow(tier).free(op.src + p);
      continue;
    }
    KVSTOW_CHECK(op.kind != MemOpKind::copy ||
                     std::abs(op.src.index() - op.dst.index()) >= op.length.count(),
                 "source and destination of a copy overlap");
    const Tier from = op.kind == MemOpKind::swap_in ? Tier::host : Tier::device;
    const Tier to = op.kind == MemOpKind::swap_out ? Tier::host : Tier::device;
    for (Tokens p(0); p < op.length; ++p) {
      const Content moved = shadow(from).content(op.src + p);
      KVSTOW_CHECK(moved != 0, "an operation of the plan reads a dead slot");
      KVSTOW_CHECK(shadow(to).readers(op.dst + p) == 0,
                   "an operation of the plan writes where some sequence reads");
      shadow(to).store(op.dst + p, moved);
    }
  }
}

AllocResult CheckedAllocator::admit(const AdmitRequest& request, MemPlan& plan) {
  const Before before = this->before(plan);
  const AllocResult result = ForwardingAllocator::admit(request, plan);
  KVSTOW_CHECK((result.status == AllocStatus::never) == !fits_empty_pool(request),
               "never exactly where an empty pool does not fit");
  if (result.status != AllocStatus::ok) {
    check_unchanged(before, plan);
    return result;
  }
  KVSTOW_CHECK(result.cached <= request.prefix_tokens, "more is cached than the prefix has");
  KVSTOW_CHECK(stats(Tier::device).free() >= request.keep_free, "admit went below keep_free");
  execute(plan, before.ops);

  const auto prompt = static_cast<std::size_t>(request.prompt.count());
  const auto cached = static_cast<std::size_t>(result.cached.count());
  for (std::size_t i = 0; i < request.group.size(); ++i) {
    const SeqId id = request.group[i];
    Sequence& sequence = at(id);
    KVSTOW_CHECK(sequence.tokens.empty(), "a sequence is admitted twice");
    sequence.tier = Tier::device;
    if (cached > 0) {
      const std::vector<Content>& lender = sequences_[request.prefix.index()].tokens;
      sequence.tokens.assign(lender.begin(), lender.begin() + result.cached.count());
    }
    map(id);  // the cached tokens must be there
    if (i > 0 && request.share_prompt) {
      sequence.tokens = sequences_[request.group[0].index()].tokens;
    }
    while (sequence.tokens.size() < prompt) sequence.tokens.push_back(++last_);
    hold(id);
    write(id, cached);
    logical_[0] += request.prompt;
  }
  check_stats();
  return result;
}

AllocStatus CheckedAllocator::grow(std::span<const SeqId> group, Tokens new_length, MemPlan& plan) {
  const Before before = this->before(plan);
  const AllocStatus status = ForwardingAllocator::grow(group, new_length, plan);
  if (status != AllocStatus::ok) {
    check_unchanged(before, plan);
    return status;
  }
  // Looking at the last token alone keeps a plain growth O(1); copy-on-write moves that one too.
  const auto last_moved = [&](SeqId id) {
    const Sequence& sequence = at(id);
    return view(id).slot(length_of(sequence.tokens) - Tokens(1)) != sequence.slots.back();
  };
  const bool moved =
      plan.ops().size() > before.ops || std::any_of(group.begin(), group.end(), last_moved);
  if (moved) {
    for (const SeqId id : group) unmap(id);
    execute(plan, before.ops);
    for (const SeqId id : group) map(id);
  }
  for (const SeqId id : group) {
    Sequence& sequence = at(id);
    if (moved || view(id).capacity != sequence.capacity) hold(id);
    const std::size_t first = sequence.tokens.size();
    logical_[0] += new_length - length_of(sequence.tokens);
    while (length_of(sequence.tokens) < new_length) sequence.tokens.push_back(++last_);
    for (std::size_t p = first; p < sequence.tokens.size(); ++p) {
      const Slot slot = view(id).slot(Tokens(static_cast<std::int64_t>(p)));
      KVSTOW_CHECK(shadow(Tier::device).readers(slot) == 0, "a slot is owned twice");
    }
    write(id, first);
  }
  check_stats();
  return status;
}

AllocStatus CheckedAllocator::reorder(std::span<const Fork> forks, MemPlan& plan) {
  const Before before = this->before(plan);
  const AllocStatus status = ForwardingAllocator::reorder(forks, plan);
  if (status != AllocStatus::ok) {
    check_unchanged(before, plan);
    return status;
  }
  std::vector<SeqId> touched;
  for (const Fork& fork : forks) touched.insert(touched.end(), {fork.parent, fork.child});
  std::sort(touched.begin(), touched.end());
  touched.erase(std::unique(touched.begin(), touched.end()), touched.end());

  for (const SeqId id : touched) unmap(id);
  execute(plan, before.ops);
  std::vector<std::vector<Content>> parents;
  for (const Fork& fork : forks) parents.push_back(at(fork.parent).tokens);
  for (std::size_t f = 0; f < forks.size(); ++f) at(forks[f].child).tokens = parents[f];
  for (const SeqId id : touched) {
    hold(id);
    map(id);
  }
  check_stats();
  return status;
}

void CheckedAllocator::move(std::span<const SeqId> group, Tier to, const MemPlan& plan,
                            std::size_t first_op) {
  for (const SeqId id : group) unmap(id);
  execute(plan, first_op);
  for (const SeqId id : group) {
    Sequence& sequence = at(id);
    const Tokens length = length_of(sequence.tokens);
    logical_[static_cast<std::size_t>(sequence.tier)] -= length;
    logical_[static_cast<std::size_t>(to)] += length;
    sequence.tier = to;
    hold(id);
    map(id);
  }
  check_stats();
}

AllocStatus CheckedAllocator::swap_out(std::span<const SeqId> group, MemPlan& plan) {
  const Before before = this->before(plan);
  const AllocStatus status = ForwardingAllocator::swap_out(group, plan);
  if (status == AllocStatus::ok)
    move(group, Tier::host, plan, before.ops);
  else
    check_unchanged(before, plan);
  return status;
}

AllocStatus CheckedAllocator::swap_in(std::span<const SeqId> group, Tokens keep_free,
                                      MemPlan& plan) {
  const Before before = this->before(plan);
  const AllocStatus status = ForwardingAllocator::swap_in(group, keep_free, plan);
  if (status == AllocStatus::ok) {
    KVSTOW_CHECK(stats(Tier::device).free() >= keep_free, "swap_in went below keep_free");
    move(group, Tier::device, plan, before.ops);
  } else {
    check_unchanged(before, plan);
  }
  return status;
}

void CheckedAllocator::release(SeqId id, MemPlan& plan) {
  const std::size_t first_op = plan.ops().size();
  ForwardingAllocator::release(id, plan);
  Sequence& sequence = at(id);
  KVSTOW_CHECK(!sequence.tokens.empty(), "an unknown sequence is released");
  unmap(id);
  execute(plan, first_op);
  logical_[static_cast<std::size_t>(sequence.tier)] -= length_of(sequence.tokens);
  sequence = {};
  check_stats();
}

void CheckedAllocator::check_invariants(CheckLevel level) const {
  ForwardingAllocator::check_invariants(level);
  if (level == CheckLevel::cheap) return;
  for (std::size_t i = 0; i < sequences_.size(); ++i) {
    const Sequence& sequence = sequences_[i];
    if (sequence.tokens.empty()) continue;
    const KvView view = this->view(SeqId(static_cast<SeqId::Rep>(i)));
    for (std::size_t p = 0; p < sequence.tokens.size(); ++p) {
      const Slot slot = view.slot(Tokens(static_cast<std::int64_t>(p)));
      KVSTOW_CHECK(slot == sequence.slots[p], "the map of an untouched sequence changed");
      KVSTOW_CHECK(shadow(sequence.tier).content(slot) == sequence.tokens[p],
                   "a view does not read back what was written");
    }
  }
}

}  // namespace kvstow
