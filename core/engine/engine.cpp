#include "core/engine/engine.h"

#include "core/check.h"

namespace kvstow {

Engine::Engine(const EngineParts& parts)
    : trace_(parts.trace),
      scheduler_(parts.scheduler),
      allocator_(parts.allocator),
      executor_(parts.executor),
      clock_(parts.clock),
      metrics_(parts.metrics),
      seq_ids_(parts.seq_ids),
      ledger_(parts.allocator) {}

void Engine::run() {
  next_ = trace_.next();
  while (next_ || in_flight_ > 0) {
    if (in_flight_ == 0) clock_.wait_until(next_->arrival);
    take_arrivals();
    if (in_flight_ > 0) execute();
  }
  for (SequenceGroup* holder : scheduler_.prefix_holders()) {
    for (const SeqId seq : holder->sequences) allocator_.release(seq, after_step_);
  }
  for (const Tier tier : {Tier::device, Tier::host}) {
    KVSTOW_CHECK(allocator_.stats(tier).held == Tokens(0), "slots leaked: the pool is not empty");
  }
}

SequenceGroup& Engine::new_group(Request&& request) {
  if (unused_.empty()) {
    groups_.emplace_back();
    unused_.push_back(&groups_.back());
  }
  SequenceGroup& group = *unused_.back();
  unused_.pop_back();
  std::vector<SeqId> sequences = std::move(group.sequences);  // keeps its memory
  sequences.clear();
  for (int i = 0; i < request.decoding.width; ++i) {
    const SeqId seq = seq_ids_.take();
    if (seq.index() >= owner_.size()) owner_.resize(seq.index() + 1);
    owner_[seq.index()] = request.id;
    sequences.push_back(seq);
  }
  group = SequenceGroup{.sequences = std::move(sequences), .request = std::move(request)};
  return group;
}

void Engine::take_arrivals() {
  const Seconds now = clock_.now();
  for (; next_ && next_->arrival <= now; next_ = trace_.next()) {
    SequenceGroup& group = new_group(std::move(*next_));
    if (scheduler_.add(group)) {
      ++in_flight_;
      continue;
    }
    metrics_.on_request({.id = group.request.id,
                         .arrival = group.request.arrival,
                         .prompt = group.request.prompt,
                         .output = group.request.output,
                         .sequences = group.request.decoding.width,
                         .rejected = true});
    for (const SeqId seq : group.sequences) seq_ids_.give_back(seq);
    unused_.push_back(&group);
  }
}

void Engine::execute() {
  const Seconds begin = clock_.now();
  step_.clear();
  step_.plan.swap(after_step_);
  scheduler_.schedule(step_);
  KVSTOW_CHECK(!step_.groups.empty(), "the scheduler made no progress with requests in flight");
  for (SequenceGroup* group : scheduler_.preempted()) {
    if (group->paused_at < 0) group->paused_at = begin;
  }
  executor_.submit(step_);
  const StepResult result = executor_.wait();
  clock_.step_took(result.elapsed);
  report_step(begin, result);
  const bool any_done = count_tokens(begin);
  follow_beams(result.tokens);
  if (any_done) {
    finished_.clear();
    scheduler_.complete(finished_);
    for (SequenceGroup* group : finished_) finish(*group);
  }
  ++steps_;
}

// Every resident group has drawn one token for each of its sequences. Returns whether that was the
// last of any.
bool Engine::count_tokens(Seconds begin) {
  const Seconds now = clock_.now();
  std::int64_t steady = 0;  // sequences that drew their previous token in the step before this one
  bool any_done = false;
  for (SequenceGroup* group : scheduler_.resident()) {
    if (group->done()) continue;  // waits for its static batch
    ++group->generated;
    any_done |= group->done();
    if (group->first_token < 0) [[unlikely]] {
      group->first_scheduled = begin;
      group->first_token = now;
    } else if (group->paused_at >= 0) [[unlikely]] {
      metrics_.on_token_gaps(now - group->paused_at, group->width());
      group->paused_at = -1;
    } else {
      steady += group->width();
    }
  }
  if (steady > 0) metrics_.on_token_gaps(now - begin, steady);
  return any_done;
}

// Beams that died take over a survivor's history, group by group.
void Engine::follow_beams(std::span<const TokenOut> tokens) {
  for (std::size_t i = 0; i < tokens.size();) {
    const RequestId owner = owner_[tokens[i].sequence.index()];
    forks_.clear();
    for (; i < tokens.size() && owner_[tokens[i].sequence.index()] == owner; ++i) {
      const TokenOut& out = tokens[i];
      if (out.parent != out.sequence)
        forks_.push_back({.parent = out.parent, .child = out.sequence});
    }
    if (forks_.empty()) continue;
    const AllocStatus status = allocator_.reorder(forks_, after_step_);
    KVSTOW_CHECK(status == AllocStatus::ok, "a beam step must not need memory its group lacks");
  }
}

void Engine::finish(SequenceGroup& group) {
  std::uint64_t hash = 0;
  for (const SeqId seq : group.sequences) {
    hash = hash * 0x100000001b3ULL ^ executor_.token_hash(seq);
    allocator_.release(seq, after_step_);
    seq_ids_.give_back(seq);
  }
  metrics_.on_request({.id = group.request.id,
                       .arrival = group.request.arrival,
                       .first_scheduled = group.first_scheduled,
                       .first_token = group.first_token,
                       .finish = clock_.now(),
                       .prompt = group.request.prompt,
                       .output = group.request.output,
                       .sequences = group.request.decoding.width,
                       .preemptions = group.preemptions,
                       .recomputed = group.recomputed,
                       .token_hash = hash});
  --in_flight_;
  unused_.push_back(&group);
}

void Engine::report_step(Seconds begin, const StepResult& result) {
  const WasteLedger::Account account =
      ledger_.device(scheduler_.resident(), scheduler_.prefix_holders());
  const QueueLengths queues = scheduler_.queues();
  StepEvent event{.index = steps_,
                  .begin = begin,
                  .elapsed = result.elapsed,
                  .totals = &step_.totals,
                  .waiting_groups = queues.waiting,
                  .swapped_groups = queues.swapped,
                  .preemptions = step_.preemptions,
                  .head_fragmented = step_.head_fragmented,
                  .device = account.row,
                  .mapped = account.mapped,
                  .logical = account.logical};
  for (const MemOp& op : step_.plan.ops()) {
    if (op.kind == MemOpKind::swap_out) event.swapped_out += op.length;
    if (op.kind == MemOpKind::swap_in) event.swapped_in += op.length;
    if (op.kind == MemOpKind::copy) event.copied += op.length;
  }
  metrics_.on_step(event);
}

}  // namespace kvstow
