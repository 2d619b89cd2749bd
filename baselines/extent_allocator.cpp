#include "baselines/extent_allocator.h"

#include <algorithm>
#include <utility>

#include "core/check.h"

namespace kvstow {

ExtentAllocator::ExtentAllocator(std::string_view name, BlockSize block,
                                 std::unique_ptr<Arena> device, std::unique_ptr<Arena> host)
    : name_(name), block_(block) {
  device_.arena = std::move(device);
  host_.arena = std::move(host);
}

ExtentAllocator::Sequence& ExtentAllocator::known(SeqId id) {
  KVSTOW_DCHECK(id.index() < sequences_.size() && sequences_[id.index()].length > 0,
                "unknown sequence");
  return sequences_[id.index()];
}

const ExtentAllocator::Sequence& ExtentAllocator::known(SeqId id) const {
  KVSTOW_DCHECK(id.index() < sequences_.size() && sequences_[id.index()].length > 0,
                "unknown sequence");
  return sequences_[id.index()];
}

bool ExtentAllocator::fits_empty_pool(const AdmitRequest& request) const {
  return fits_empty_pool(static_cast<std::int64_t>(request.group.size()),
                         block_.blocks_for(request.expected_total.count()),
                         block_.blocks_for(request.keep_free.count()));
}

bool ExtentAllocator::fits_empty_pool(std::int64_t members, std::int64_t blocks,
                                      std::int64_t keep_free) const {
  const std::int64_t granted = device_.arena->granted(blocks);
  return granted > 0 && members * granted + keep_free <= device_.arena->total();
}

// Fills runs_ with a run of blocks_of(i) for each member i, or takes nothing.
template <class BlocksOf>
AllocStatus ExtentAllocator::take_runs(Arena& arena, std::size_t members, BlocksOf blocks_of,
                                       std::int64_t keep_free) {
  std::int64_t asked = 0;
  for (std::size_t i = 0; i < members; ++i) asked += blocks_of(i);
  if (arena.free() < asked + keep_free) return AllocStatus::no_memory;
  if (runs_.size() < members) runs_.resize(members);
  std::size_t taken = 0;
  while (taken < members && (runs_[taken] = arena.take(blocks_of(taken)))) ++taken;
  if (taken == members && arena.free() >= keep_free) return AllocStatus::ok;
  while (taken > 0) arena.give(runs_[--taken]);  // in reverse: restores the arena exactly
  return AllocStatus::fragmented;
}

AllocResult ExtentAllocator::admit(const AdmitRequest& request, MemPlan&) {
  const std::int64_t blocks = block_.blocks_for(request.expected_total.count());
  const std::int64_t keep_free = block_.blocks_for(request.keep_free.count());
  const auto members = static_cast<std::int64_t>(request.group.size());
  if (!fits_empty_pool(members, blocks, keep_free)) return {AllocStatus::never};
  const auto equal = [blocks](std::size_t) { return blocks; };
  const AllocStatus status = take_runs(*device_.arena, request.group.size(), equal, keep_free);
  if (status != AllocStatus::ok) return {status};

  for (std::size_t i = 0; i < request.group.size(); ++i) {
    const SeqId id = request.group[i];
    if (id.index() >= sequences_.size()) sequences_.resize(id.index() + 1);
    Sequence& sequence = sequences_[id.index()];
    KVSTOW_DCHECK(sequence.length == 0, "a sequence is admitted twice");
    sequence.length = request.prompt.count();
    sequence.run = runs_[i];
    sequence.capacity = runs_[i].length * block_.tokens();
    sequence.expected = blocks;
    sequence.tier = Tier::device;
    device_.logical += sequence.length;
    ++device_.sequences;
  }
  return {AllocStatus::ok};
}

AllocStatus ExtentAllocator::grow(std::span<const SeqId> group, Tokens new_length, MemPlan&) {
  const std::int64_t length = new_length.count();
  for (const SeqId id : group) {
    const Sequence& sequence = known(id);
    KVSTOW_DCHECK(sequence.tier == Tier::device, "growing a swapped sequence");
    KVSTOW_DCHECK(sequence.length <= length, "grow cannot shorten a sequence");
    if (sequence.capacity < length) {
      if (const AllocStatus status = grow_beyond(group, length); status != AllocStatus::ok) {
        return status;
      }
      break;
    }
  }
  for (const SeqId id : group) {
    Sequence& sequence = sequences_[id.index()];
    device_.logical += length - sequence.length;
    sequence.length = length;
  }
  return AllocStatus::ok;
}

AllocStatus ExtentAllocator::grow_beyond(std::span<const SeqId> group, std::int64_t new_length) {
  Arena& arena = *device_.arena;
  const std::int64_t blocks = block_.blocks_for(new_length);
  std::int64_t more = 0;
  bool extensible = true;
  for (const SeqId id : group) {
    const Sequence& sequence = sequences_[id.index()];
    if (sequence.capacity >= new_length) continue;
    more += blocks - sequence.run.length;
    extensible = extensible && arena.can_extend(sequence.run, blocks);
  }
  if (!extensible) return arena.free() < more ? AllocStatus::no_memory : AllocStatus::fragmented;
  for (const SeqId id : group) {
    Sequence& sequence = sequences_[id.index()];
    if (sequence.capacity >= new_length) continue;
    sequence.run = arena.extend(sequence.run, blocks);
    sequence.capacity = sequence.run.length * block_.tokens();
    sequence.expected = blocks;
  }
  return AllocStatus::ok;
}

AllocStatus ExtentAllocator::reorder(std::span<const Fork> forks, MemPlan& plan) {
  for (const Fork& fork : forks) {
    Sequence& parent = known(fork.parent);
    Sequence& child = known(fork.child);
    KVSTOW_DCHECK(parent.tier == Tier::device && child.tier == Tier::device,
                  "reordering a swapped sequence");
    KVSTOW_DCHECK(parent.length == child.length && parent.capacity == child.capacity,
                  "beams of one group have one length and equal extents");
    if (fork.parent == fork.child) continue;
    child.parent = fork.parent;
    ++parent.readers;
  }
  // A child that nobody reads any more can be overwritten; that may set its parent free in turn.
  for (const Fork& fork : forks) {
    for (SeqId id = fork.child; sequences_[id.index()].parent.valid();) {
      Sequence& child = sequences_[id.index()];
      if (child.readers > 0) break;
      Sequence& parent = sequences_[child.parent.index()];
      plan.copy(slot_of(parent.run), slot_of(child.run), Tokens(child.length));
      --parent.readers;
      id = std::exchange(child.parent, SeqId());
    }
  }
  for (const Fork& fork : forks) {  // pure cycles are left: rename instead of copying
    const BlockRun first = sequences_[fork.child.index()].run;
    for (SeqId id = fork.child; sequences_[id.index()].parent.valid();) {
      Sequence& child = sequences_[id.index()];
      id = std::exchange(child.parent, SeqId());
      Sequence& parent = sequences_[id.index()];
      parent.readers = 0;
      child.run = parent.parent.valid() ? parent.run : first;
    }
  }
  return AllocStatus::ok;
}

AllocStatus ExtentAllocator::swap_out(std::span<const SeqId> group, MemPlan& plan) {
  return move(group, Tier::device, Tier::host, 0, plan);
}

AllocStatus ExtentAllocator::swap_in(std::span<const SeqId> group, Tokens keep_free,
                                     MemPlan& plan) {
  return move(group, Tier::host, Tier::device, block_.blocks_for(keep_free.count()), plan);
}

AllocStatus ExtentAllocator::move(std::span<const SeqId> group, Tier from, Tier to,
                                  std::int64_t keep_free, MemPlan& plan) {
  const auto wanted = [&](std::size_t i) {
    const Sequence& sequence = known(group[i]);
    KVSTOW_DCHECK(sequence.tier == from, "the sequence is not in that tier");
    return to == Tier::device ? sequence.expected : block_.blocks_for(sequence.length);
  };
  const AllocStatus status = take_runs(*tier(to).arena, group.size(), wanted, keep_free);
  if (status != AllocStatus::ok) return status;
  for (std::size_t i = 0; i < group.size(); ++i) {
    Sequence& sequence = sequences_[group[i].index()];
    if (to == Tier::host)
      plan.swap_out(slot_of(sequence.run), slot_of(runs_[i]), Tokens(sequence.length));
    else
      plan.swap_in(slot_of(sequence.run), slot_of(runs_[i]), Tokens(sequence.length));
    plan.free(from, slot_of(sequence.run), tokens_of(sequence.run));
    tier(from).arena->give(sequence.run);
    tier(from).logical -= sequence.length;
    tier(to).logical += sequence.length;
    --tier(from).sequences;
    ++tier(to).sequences;
    sequence.run = runs_[i];
    sequence.capacity = sequence.run.length * block_.tokens();
    sequence.tier = to;
  }
  return AllocStatus::ok;
}

void ExtentAllocator::release(SeqId id, MemPlan& plan) {
  Sequence& sequence = known(id);
  TierState& state = tier(sequence.tier);
  plan.free(sequence.tier, slot_of(sequence.run), tokens_of(sequence.run));
  state.arena->give(sequence.run);
  state.logical -= sequence.length;
  --state.sequences;
  sequence.length = 0;
}

KvView ExtentAllocator::view(SeqId id) const {
  const Sequence& sequence = known(id);
  KvView view;
  view.first = slot_of(sequence.run);
  view.capacity = Tokens(sequence.capacity);
  return view;
}

KvStats ExtentAllocator::stats(Tier t) const {
  const TierState& state = tier(t);
  KvStats stats;
  stats.capacity = Tokens(state.arena->total() * block_.tokens());
  stats.held = Tokens((state.arena->total() - state.arena->free()) * block_.tokens());
  stats.live = Tokens(state.logical);
  stats.logical = Tokens(state.logical);
  stats.metadata = state.arena->metadata() +
                   Bytes(state.sequences * static_cast<std::int64_t>(sizeof(Sequence)));
  return stats;
}

void ExtentAllocator::check_invariants(CheckLevel level) const {
  for (const TierState* state : {&device_, &host_}) {
    const std::int64_t held = (state->arena->total() - state->arena->free()) * block_.tokens();
    KVSTOW_CHECK(state->arena->free() >= 0 && state->logical >= 0 && state->logical <= held,
                 "live slots are held slots");
    KVSTOW_CHECK((state->sequences == 0) == (held == 0), "slots are held by sequences only");
  }
  if (level == CheckLevel::cheap) return;

  for (const Tier t : {Tier::device, Tier::host}) {
    const TierState& state = tier(t);
    state.arena->check();
    std::vector<BlockRun> runs;
    std::int64_t logical = 0;
    std::int64_t held = 0;
    for (const Sequence& sequence : sequences_) {
      if (sequence.length == 0 || sequence.tier != t) continue;
      KVSTOW_CHECK(sequence.length <= sequence.capacity &&
                       sequence.capacity == sequence.run.length * block_.tokens(),
                   "a sequence lies inside its run");
      KVSTOW_CHECK(!sequence.parent.valid() && sequence.readers == 0, "no reorder is half done");
      runs.push_back(sequence.run);
      logical += sequence.length;
      held += sequence.run.length;
    }
    std::sort(runs.begin(), runs.end(), [](BlockRun a, BlockRun b) { return a.first < b.first; });
    for (std::size_t i = 1; i < runs.size(); ++i) {
      KVSTOW_CHECK(runs[i - 1].first + runs[i - 1].length <= runs[i].first,
                   "no slot is owned twice");
    }
    KVSTOW_CHECK(held + state.arena->free() == state.arena->total(),
                 "a block is neither held nor free");
    KVSTOW_CHECK(
        logical == state.logical && static_cast<std::int64_t>(runs.size()) == state.sequences,
        "the counters of a tier equal the sums over its sequences");
  }
}

}  // namespace kvstow
