#include "core/engine/engine.h"

#include <algorithm>

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
      stop_at_(parts.stop_at),
      profile_(parts.profile),
      ledger_(parts.allocator),
      steps_(static_cast<std::size_t>(parts.executor.depth())) {}

void Engine::run() {
  next_ = trace_.next();
  while ((next_ || requests_in_flight_ > 0) && clock_.now() < stop_at_) {
    take_arrivals();
    if (requests_in_flight_ > 0) {
      launch();
    } else if (next_) {
      while (settled_ < submitted_) settle();
      clock_.wait_until(std::min(next_->arrival, stop_at_));
    }
  }
  while (settled_ < submitted_) settle();
  if (next_ || requests_in_flight_ > 0) return;  // stopped
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
      ++requests_in_flight_;
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

void Engine::launch() {
  const Seconds scheduled = clock_.now();
  if (profile_ != nullptr) profile_->begin_step();
  InFlight& flight = steps_[static_cast<std::size_t>(submitted_) % steps_.size()];
  Step& step = flight.step;
  step.clear();
  step.plan.swap(after_step_);
  {
    const HostProfile::Range range(profile_, HostStage::schedule, submitted_);
    scheduler_.schedule(step);
  }
  KVSTOW_CHECK(!step.groups.empty() || step.preemptions > 0,
               "the scheduler made no progress with requests in flight");
  flight.paused.clear();
  for (SequenceGroup* group : scheduler_.preempted()) {
    if (!group->paused) flight.paused.push_back(group);
    group->paused = true;
  }
  {
    const HostProfile::Range range(profile_, HostStage::submit, submitted_);
    executor_.submit(step);
  }
  ++submitted_;
  flight.event = describe(step, scheduled);
  count_tokens(flight);
  std::int64_t stay = 0;  // steps that may stay in flight
  if (runs_ahead(step)) {
    release_finished(flight);
    stay = std::ssize(steps_) - 1;
  }
  while (submitted_ - settled_ > stay) settle();
}

bool Engine::runs_ahead(const Step& step) const {
  return steps_.size() > 1 &&
         std::none_of(step.groups.begin(), step.groups.end(), [](const StepGroup& group) {
           return group.request->decoding.kind == DecodingKind::beam;
         });
}

// Every resident group draws one token for each of its sequences, but in the middle of its prompt.
void Engine::count_tokens(InFlight& flight) {
  flight.chunks.clear();
  flight.first.clear();
  flight.resumed.clear();
  flight.steady = 0;
  flight.completes = false;
  for (SequenceGroup* group : scheduler_.resident()) {
    if (group->done()) continue;  // waits for its static batch
    if (group->to_compute() > Tokens(0)) [[unlikely]] {
      flight.chunks.push_back(group);
      continue;
    }
    if (group->generated == Tokens(0)) [[unlikely]] {
      flight.first.push_back(group);
      group->paused = false;
    } else if (group->paused) [[unlikely]] {
      flight.resumed.push_back(group);
      group->paused = false;
    } else {
      flight.steady += group->width();
    }
    ++group->generated;
    flight.completes |= group->done();
  }
}

void Engine::release_finished(InFlight& flight) {
  if (!flight.completes) return;
  flight.completes = false;
  scheduler_.complete(flight.finished);
  for (const SequenceGroup* group : flight.finished) {
    for (const SeqId seq : group->sequences) allocator_.release(seq, after_step_);
    --requests_in_flight_;
  }
}

void Engine::settle() {
  InFlight& flight = steps_[static_cast<std::size_t>(settled_) % steps_.size()];
  const StepResult result = [&] {
    const HostProfile::Range range(profile_, HostStage::wait, settled_);
    return executor_.wait();
  }();
  const HostProfile::Range range(profile_, HostStage::settle, settled_);
  clock_.step_took(result.elapsed);
  const Seconds now = clock_.now();
  StepEvent& event = flight.event;
  event.begin = std::max(event.begin, settled_at_);  // submitted ahead, it had to wait its turn
  event.elapsed = result.elapsed;
  event.index = settled_++;
  metrics_.on_step(event);
  const auto begins = [&](SequenceGroup& group) {
    if (group.first_scheduled < 0) group.first_scheduled = event.begin;
  };
  for (SequenceGroup* group : flight.chunks) begins(*group);
  for (SequenceGroup* group : flight.first) {
    begins(*group);
    group->first_token = now;
  }
  for (SequenceGroup* group : flight.paused) group->paused_at = event.begin;
  for (const SequenceGroup* group : flight.resumed) {
    metrics_.on_token_gaps(now - group->paused_at, group->width());
  }
  if (flight.steady > 0) metrics_.on_token_gaps(now - event.begin, flight.steady);
  settled_at_ = now;
  follow_beams(result.tokens);
  release_finished(flight);
  for (SequenceGroup* group : flight.finished) report_finished(*group);
  flight.finished.clear();
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

void Engine::report_finished(SequenceGroup& group) {
  std::uint64_t hash = 0;
  for (const SeqId seq : group.sequences) {
    hash = hash * 0x100000001b3ULL ^ executor_.token_hash(seq);
    seq_ids_.give_back(seq);
  }
  metrics_.on_request({.id = group.request.id,
                       .arrival = group.request.arrival,
                       .first_scheduled = group.first_scheduled,
                       .first_token = group.first_token,
                       .finish = settled_at_,
                       .prompt = group.request.prompt,
                       .output = group.request.output,
                       .sequences = group.request.decoding.width,
                       .preemptions = group.preemptions,
                       .recomputed = group.recomputed,
                       .token_hash = hash});
  unused_.push_back(&group);
}

StepEvent Engine::describe(const Step& step, Seconds scheduled) {
  const WasteLedger::Account account =
      ledger_.device(scheduler_.resident(), scheduler_.prefix_holders());
  const QueueLengths queues = scheduler_.queues();
  const MemPlan::Moved moved = step.plan.moved();
  return {.begin = scheduled,
          .totals = &step.totals,
          .waiting_groups = queues.waiting,
          .swapped_groups = queues.swapped,
          .preemptions = step.preemptions,
          .head_fragmented = step.head_fragmented,
          .swapped_out = moved.out,
          .swapped_in = moved.in,
          .copied = moved.copied,
          .device = account.row,
          .mapped = account.mapped,
          .logical = account.logical};
}

}  // namespace kvstow
