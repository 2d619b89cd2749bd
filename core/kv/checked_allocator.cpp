#include "core/kv/checked_allocator.h"

#include <algorithm>
#include <cstdlib>

#include "core/kv/checked_messages.h"

namespace kvstow {

using namespace checked;

namespace {

constexpr std::array<Tier, 2> kTiers = {Tier::device, Tier::host};

Tokens length_of(const std::vector<Content>& tokens) {
  return Tokens(static_cast<std::int64_t>(tokens.size()));
}

}  // namespace

CheckedAllocator::Sequence& CheckedAllocator::at(SeqId id) {
  if (id.index() >= sequences_.size()) sequences_.resize(id.index() + 1);
  return sequences_[id.index()];
}

std::string CheckedAllocator::place(SeqId id, std::size_t position, Slot slot) const {
  return say("sequence ", id, " position ", position, ", ", name_of(sequences_[id.index()].tier),
             " slot ", slot);
}

// A token is named by a sequence that has it; a search, for messages alone.
std::string CheckedAllocator::token(Content content) const {
  if (content == 0) return "nothing";
  for (std::size_t i = 0; i < sequences_.size(); ++i) {
    const std::vector<Content>& tokens = sequences_[i].tokens;
    const auto found = std::find(tokens.begin(), tokens.end(), content);
    if (found != tokens.end()) return say("token ", found - tokens.begin(), " of sequence ", i);
  }
  return "a token that no sequence has any more";
}

std::string CheckedAllocator::reader(Tier tier, Slot slot) const {
  for (std::size_t i = 0; i < sequences_.size(); ++i) {
    const Sequence& s = sequences_[i];
    const auto found = std::find(s.slots.begin(), s.slots.end(), slot);
    if (s.tier == tier && found != s.slots.end()) {
      return say("sequence ", i, " reads it as position ", found - s.slots.begin());
    }
  }
  return "nobody reads it";
}

void CheckedAllocator::fail_in(const std::string& call, const InvariantError& error) const {
  throw InvariantError(say(error.what(), "\n  in call ", calls_, ", ", call));
}

CheckedAllocator::Before CheckedAllocator::before(const MemPlan& plan) {
  ++calls_;
  return {plan.ops().size(), {stats(Tier::device), stats(Tier::host)}};
}

void CheckedAllocator::check_unchanged(const Before& before, const MemPlan& plan) const {
  KVSTOW_CHECK(plan.ops().size() == before.ops,
               "a failed call changed the plan: it left " + text_of(plan, before.ops));
  for (const Tier tier : kTiers) {
    const KvStats& old = before.stats[static_cast<std::size_t>(tier)];
    const std::string changed = difference(old, stats(tier));
    KVSTOW_CHECK(changed.empty(),
                 say("a failed call changed the statistics: ", name_of(tier), " ", changed));
  }
}

void CheckedAllocator::check_stats() const {
  for (const Tier tier : kTiers) {
    const KvStats stats = this->stats(tier);
    const Tokens logical = logical_[static_cast<std::size_t>(tier)];
    const Tokens live = shadow(tier).live();
    const Tokens held = shadow(tier).held();
    KVSTOW_CHECK(stats.logical == logical,
                 say("logical is the sum of the sequences' lengths: ", name_of(tier), " stats say ",
                     stats.logical, ", the lengths add up to ", logical));
    KVSTOW_CHECK(stats.live == live,
                 say("live is the number of distinct filled slots: ", name_of(tier), " stats say ",
                     stats.live, ", the views have ", live));
    KVSTOW_CHECK(stats.held == held,
                 say("held is the number of slots that came behind a view and that no plan has "
                     "freed since: ",
                     name_of(tier), " stats say ", stats.held, ", views and plans ", held));
    KVSTOW_CHECK(
        stats.free() >= Tokens(0),
        say("the classes of a tier exceed its capacity: ", name_of(tier), " by ", -stats.free()));
  }
  ForwardingAllocator::check_invariants(CheckLevel::cheap);
}

void CheckedAllocator::unmap(SeqId id) {
  Sequence& sequence = at(id);
  for (const Slot slot : sequence.slots) shadow(sequence.tier).unmap(slot);
  sequence.slots.clear();
}

// The sequence's view, once it is seen to be one: every slot that it may show exists.
KvView CheckedAllocator::checked_view(SeqId id) const {
  const KvView view = this->view(id);
  const Tokens length = length_of(sequences_[id.index()].tokens);
  KVSTOW_CHECK(view.capacity >= length,
               say("a view is shorter than its sequence: sequence ", id, " has ", length,
                   " tokens, its view ", view.capacity, " slots"));
  const Tokens shown = std::ssize(view.blocks) * view.block_tokens;
  KVSTOW_CHECK(view.is_extent() || view.capacity <= shown,
               say("a view's capacity exceeds its table: sequence ", id, ", ", view.capacity,
                   " slots in ", view.blocks.size(), " blocks of ", view.block_tokens));
  return view;
}

void CheckedAllocator::map(SeqId id) {
  Sequence& sequence = at(id);
  const KvView view = checked_view(id);
  for (std::size_t p = 0; p < sequence.tokens.size(); ++p) {
    const Slot slot = view.slot(Tokens(static_cast<std::int64_t>(p)));
    check_content(id, p, slot);
    shadow(sequence.tier).map(slot);
    sequence.slots.push_back(slot);
  }
}

void CheckedAllocator::check_content(SeqId id, std::size_t position, Slot slot) const {
  const Sequence& sequence = sequences_[id.index()];
  const Content found = shadow(sequence.tier).content(slot);
  KVSTOW_CHECK(found == sequence.tokens[position],
               say("a view does not read back what was written: ", place(id, position, slot),
                   " holds ", token(found)));
}

void CheckedAllocator::hold(SeqId id) {
  Sequence& sequence = at(id);
  const KvView view = checked_view(id);
  const Tokens pool = stats(sequence.tier).capacity;
  sequence.capacity = view.capacity;
  for (Tokens p(0); p < view.capacity; ++p) {
    const Slot slot = view.slot(p);
    KVSTOW_CHECK(slot >= Slot(0) && slot < Slot(0) + pool,
                 say("a view points outside the pool: ",
                     place(id, static_cast<std::size_t>(p.count()), slot), " of ", pool));
    shadow(sequence.tier).hold(slot);
  }
}

void CheckedAllocator::write(SeqId id, std::size_t first) {
  Sequence& sequence = at(id);
  const KvView view = checked_view(id);
  for (std::size_t p = first; p < sequence.tokens.size(); ++p) {
    const Slot slot = view.slot(Tokens(static_cast<std::int64_t>(p)));
    ShadowTier& memory = shadow(sequence.tier);
    KVSTOW_CHECK(memory.readers(slot) == 0 || memory.content(slot) == sequence.tokens[p],
                 say("a slot is owned twice, a write destroys a token that some sequence still "
                     "reads: ",
                     place(id, p, slot), "; ", reader(sequence.tier, slot)));
    memory.store(slot, sequence.tokens[p]);
    memory.map(slot);
    sequence.slots.push_back(slot);
  }
}

void CheckedAllocator::execute(const MemPlan& plan, std::size_t first_op) {
  for (std::size_t i = first_op; i < plan.ops().size(); ++i) {
    const MemOp& op = plan.ops()[i];
    if (is_free(op.kind)) {
      const Tier tier = op.kind == MemOpKind::free_device ? Tier::device : Tier::host;
      for (Slot slot = op.src; slot < op.src + op.length; slot = slot + Tokens(1)) {
        KVSTOW_CHECK(shadow(tier).held(slot), say("a slot is freed that nobody holds: slot ", slot,
                                                  " in ", text_of(plan, i)));
        KVSTOW_CHECK(shadow(tier).readers(slot) == 0,
                     say("a slot is freed that some sequence still reads: slot ", slot, " in ",
                         text_of(plan, i), "; ", reader(tier, slot)));
        shadow(tier).free(slot);
      }
      continue;
    }
    KVSTOW_CHECK(op.kind != MemOpKind::copy ||
                     std::abs(op.src.index() - op.dst.index()) >= op.length.count(),
                 "source and destination of a copy overlap: " + text_of(plan, i));
    const Tier from = op.kind == MemOpKind::swap_in ? Tier::host : Tier::device;
    const Tier to = op.kind == MemOpKind::swap_out ? Tier::host : Tier::device;
    for (Tokens p(0); p < op.length; ++p) {
      const Content moved = shadow(from).content(op.src + p);
      KVSTOW_CHECK(moved != 0, say("an operation of the plan reads a dead slot: ", name_of(from),
                                   " slot ", op.src + p, " in ", text_of(plan, i),
                                   freed_before(plan, first_op, i, from, op.src + p)));
      KVSTOW_CHECK(
          shadow(to).readers(op.dst + p) == 0,
          say("an operation of the plan writes where some sequence reads: ", name_of(to), " slot ",
              op.dst + p, " in ", text_of(plan, i), "; ", reader(to, op.dst + p)));
      shadow(to).store(op.dst + p, moved);
    }
  }
}

AllocResult CheckedAllocator::admit(const AdmitRequest& request, MemPlan& plan) try {
  const Before before = this->before(plan);
  const AllocResult result = ForwardingAllocator::admit(request, plan);
  KVSTOW_CHECK((result.status == AllocStatus::never) == !fits_empty_pool(request),
               say("never exactly where an empty pool does not fit: fits_empty_pool says ",
                   fits_empty_pool(request) ? "yes" : "no", ", admit ", result.status));
  if (result.status != AllocStatus::ok) {
    check_unchanged(before, plan);
    return result;
  }
  KVSTOW_CHECK(result.cached <= request.prefix_tokens,
               say("more is cached than the prefix has: ", result.cached));
  KVSTOW_CHECK(stats(Tier::device).free() >= request.keep_free,
               say("admit went below keep_free: ", stats(Tier::device).free(), " slots are free"));
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
} catch (const InvariantError& error) {
  fail_in(say("admit of sequences ", list(request.group), ", prompt ", request.prompt,
              ", expected ", request.expected_total, ", keep_free ", request.keep_free,
              request.share_prompt ? ", prompt shared" : "",
              request.prefix.valid()
                  ? say(", ", request.prefix_tokens, " tokens of the prefix of ", request.prefix)
                  : ""),
          error);
}

AllocStatus CheckedAllocator::grow(std::span<const SeqId> group, Tokens new_length,
                                   MemPlan& plan) try {
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
    write(id, first);
  }
  check_stats();
  return status;
} catch (const InvariantError& error) {
  fail_in(say("grow of sequences ", list(group), " to ", new_length, " tokens"), error);
}

AllocStatus CheckedAllocator::reorder(std::span<const Fork> forks, MemPlan& plan) try {
  const Before before = this->before(plan);
  const AllocStatus status = ForwardingAllocator::reorder(forks, plan);
  KVSTOW_CHECK(status == AllocStatus::ok, say("a beam step was refused: ", status));
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
} catch (const InvariantError& error) {
  fail_in(say("reorder ", list(forks)), error);
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

AllocStatus CheckedAllocator::swap_out(std::span<const SeqId> group, MemPlan& plan) try {
  const Before before = this->before(plan);
  const AllocStatus status = ForwardingAllocator::swap_out(group, plan);
  if (status == AllocStatus::ok)
    move(group, Tier::host, plan, before.ops);
  else
    check_unchanged(before, plan);
  return status;
} catch (const InvariantError& error) {
  fail_in(say("swap_out of sequences ", list(group)), error);
}

AllocStatus CheckedAllocator::swap_in(std::span<const SeqId> group, Tokens keep_free,
                                      MemPlan& plan) try {
  const Before before = this->before(plan);
  const AllocStatus status = ForwardingAllocator::swap_in(group, keep_free, plan);
  if (status == AllocStatus::ok) {
    KVSTOW_CHECK(
        stats(Tier::device).free() >= keep_free,
        say("swap_in went below keep_free: ", stats(Tier::device).free(), " slots are free"));
    move(group, Tier::device, plan, before.ops);
  } else {
    check_unchanged(before, plan);
  }
  return status;
} catch (const InvariantError& error) {
  fail_in(say("swap_in of sequences ", list(group), ", keep_free ", keep_free), error);
}

void CheckedAllocator::release(SeqId id, MemPlan& plan) try {
  const std::size_t first_op = before(plan).ops;
  ForwardingAllocator::release(id, plan);
  Sequence& sequence = at(id);
  KVSTOW_CHECK(!sequence.tokens.empty(), "an unknown sequence is released");
  unmap(id);
  execute(plan, first_op);
  logical_[static_cast<std::size_t>(sequence.tier)] -= length_of(sequence.tokens);
  sequence = {};
  check_stats();
} catch (const InvariantError& error) {
  fail_in(say("release of sequence ", id), error);
}

void CheckedAllocator::check_invariants(CheckLevel level) const try {
  ForwardingAllocator::check_invariants(level);
  if (level == CheckLevel::cheap) return;
  for (std::size_t i = 0; i < sequences_.size(); ++i) {
    const Sequence& sequence = sequences_[i];
    if (sequence.tokens.empty()) continue;
    const SeqId id(static_cast<SeqId::Rep>(i));
    const KvView view = checked_view(id);
    for (std::size_t p = 0; p < sequence.tokens.size(); ++p) {
      const Slot slot = view.slot(Tokens(static_cast<std::int64_t>(p)));
      KVSTOW_CHECK(slot == sequence.slots[p], say("the map of an untouched sequence changed: ",
                                                  place(id, p, slot), ", was ", sequence.slots[p]));
      check_content(id, p, slot);
    }
  }
} catch (const InvariantError& error) {
  fail_in("check_invariants after it", error);
}

}  // namespace kvstow
