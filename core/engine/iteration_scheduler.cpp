#include "core/engine/iteration_scheduler.h"

#include <algorithm>

#include "core/check.h"

namespace kvstow {

namespace {

bool arrived_before(const SequenceGroup* a, const SequenceGroup* b) {
  return a->request.id < b->request.id;
}

// One more token of a group that has room for it; what it reads goes into `sums`.
void decode(SequenceGroup& group, Step& step, StepTotals& sums) {
  step.groups.push_back({&group.request, group.sequences, group.length, Tokens(1), false});
  ++group.length;
  const std::int64_t width = group.width();
  sums.decode_tokens += Tokens(width);
  sums.kv_read += group.length * width;
  sums.prefix_read += group.shared_prefix * width;
}

template <class Queue>
void insert_by_arrival(Queue& queue, SequenceGroup* group) {
  queue.insert(std::upper_bound(queue.begin(), queue.end(), group, arrived_before), group);
}

}  // namespace

IterationScheduler::IterationScheduler(const IterationConfig& config, KvAllocator& allocator,
                                       SeqIds& seq_ids)
    : config_(config), allocator_(allocator), seq_ids_(seq_ids) {
  KVSTOW_CHECK(config_.estimate != nullptr, "a scheduler needs a length estimate");
}

AdmitRequest IterationScheduler::request_for(const SequenceGroup& group) const {
  return {.group = group.sequences,
          .prompt = group.existing(),
          .expected_total = max(group.expected_total, group.existing()),
          .keep_free = config_.keep_free,
          .share_prompt = config_.share_prompt};
}

bool IterationScheduler::add(SequenceGroup& group) {
  group.expected_total = expected_total(group.request, config_.estimate, config_.max_model_len);
  const bool in_budget =
      config_.chunked_prefill || group.request.prompt <= config_.max_batched_tokens;
  const bool fits =
      in_budget && group.width() <= config_.max_sequences && fits_beside(prefix_slots_, group);
  if (fits) waiting_.push_back(&group);
  return fits;
}

bool IterationScheduler::fits_beside(Tokens prefixes, const SequenceGroup& group) const {
  AdmitRequest whole = request_for(group);
  whole.expected_total = max(group.expected_total, group.true_total());
  whole.keep_free += prefixes;
  return allocator_.fits_empty_pool(whole);
}

void IterationScheduler::schedule(Step& step) {
  preempted_.clear();
  swapped_out_ = false;
  for (SequenceGroup* holder : holders_) holder->generated = Tokens(1);  // computed by now
  grow_running(step);
  if (!swapped_out_) swap_in(step);
  batched_ = step.totals.decode_tokens;
  continue_prompts(step);
  if (swapped_.empty()) admit_waiting(step);
  step.totals.groups = static_cast<std::int64_t>(running_.size());
  step.totals.sequences = running_sequences_;
  step.preemptions = static_cast<int>(preempted_.size());
}

void IterationScheduler::grow_running(Step& step) {
  StepTotals sums;  // in registers: this loop is the hot path of a simulated run
  for (std::size_t i = 0; i < running_.size();) {
    SequenceGroup& group = *running_[i];
    if (config_.chunked_prefill && group.prefilling()) {
      ++i;  // it has room for all of its prompt
      continue;
    }
    const AllocStatus grown = allocator_.grow(group.sequences, group.length + Tokens(1), step.plan);
    if (grown == AllocStatus::ok) [[likely]] {
      decode(group, step, sums);
      ++i;
    } else {
      SequenceGroup& victim = *running_.back();  // the latest arrival; at worst the group itself
      running_.pop_back();
      preempt(victim, how_to_preempt(victim), step);
    }
  }
  step.totals.decode_tokens += sums.decode_tokens;
  step.totals.kv_read += sums.kv_read;
  step.totals.prefix_read += sums.prefix_read;
}

Preemption IterationScheduler::how_to_preempt(const SequenceGroup& group) const {
  return group.width() > 1 ? Preemption::swap : config_.preemption;
}

void IterationScheduler::preempt(SequenceGroup& group, Preemption how, Step& step) {
  running_sequences_ -= group.width();
  ++group.preemptions;
  group.tail = {};
  preempted_.push_back(&group);
  if (how == Preemption::swap &&
      allocator_.swap_out(group.sequences, step.plan) == AllocStatus::ok) {
    swapped_out_ = true;
    insert_by_arrival(swapped_, &group);
    return;
  }
  if (group.width() > 1) {
    throw InputError("the host pool is too small to swap out a group of " +
                     std::to_string(group.width()) + " sequences of " +
                     std::to_string(group.length.count()) + " tokens: raise host_pool_bytes");
  }
  for (const SeqId seq : group.sequences) allocator_.release(seq, step.plan);
  group.lost = max(group.lost, group.length);
  group.length = Tokens(0);
  insert_by_arrival(waiting_, &group);
}

void IterationScheduler::swap_in(Step& step) {
  while (!swapped_.empty()) {
    SequenceGroup& group = *swapped_.front();
    const auto running = static_cast<std::int64_t>(running_.size());
    if (running + group.width() > config_.max_sequences) break;
    if (allocator_.swap_in(group.sequences, config_.keep_free, step.plan) != AllocStatus::ok) break;
    swapped_.pop_front();
    running_sequences_ += group.width();
    if (group.prefilling()) {
      insert_by_arrival(running_, &group);
      continue;
    }
    const AllocStatus grown = allocator_.grow(group.sequences, group.length + Tokens(1), step.plan);
    if (grown != AllocStatus::ok) {
      // An extent that came back where it cannot be extended, and might again: admitted anew it
      // gets room for its next token, too.
      preempt(group, group.width() > 1 ? Preemption::swap : Preemption::recompute, step);
      break;
    }
    insert_by_arrival(running_, &group);
    decode(group, step, step.totals);
  }
}

// What there is to compute of a prompt, or as much of it as the budget has left. Its slots are
// there: an admission takes all of them.
void IterationScheduler::prefill(SequenceGroup& group, Step& step) {
  const std::int64_t copies = config_.share_prompt ? 1 : group.width();
  const Tokens first = group.length;
  const Tokens rest = group.to_compute();
  const Tokens room = config_.max_batched_tokens - batched_;
  const Tokens count = config_.chunked_prefill ? min(rest, room) : rest;
  step.groups.push_back({.request = &group.request,
                         .sequences = group.sequences,
                         .first = first,
                         .count = count,
                         .shared = config_.share_prompt,
                         .draws = count == rest});
  group.length += count;
  batched_ += count;
  step.totals.prompt_tokens += count * copies;
  step.totals.kv_read += (first - group.shared_prefix) * copies;
  if (first < group.lost) {
    const Tokens recomputed = (min(group.length, group.lost) - first) * copies;
    step.totals.recomputed += recomputed;
    group.recomputed += recomputed;
  }
}

void IterationScheduler::continue_prompts(Step& step) {
  if (!config_.chunked_prefill) return;
  for (SequenceGroup* group : running_) {
    if (batched_ >= config_.max_batched_tokens) break;
    if (group->prefilling()) prefill(*group, step);
  }
}

void IterationScheduler::admit_waiting(Step& step) {
  while (!waiting_.empty()) {
    SequenceGroup& group = *waiting_.front();
    if (std::find(preempted_.begin(), preempted_.end(), &group) != preempted_.end()) break;
    AdmitRequest request = request_for(group);
    share_prefix(group.request, request, step);
    const Tokens to_compute = request.prompt - request.prefix_tokens;
    // A recomputed prompt may have outgrown the budget: it then runs alone.
    const Tokens least = config_.chunked_prefill ? Tokens(1) : to_compute;
    if (batched_ > Tokens(0) && batched_ + least > config_.max_batched_tokens) break;
    const auto running = static_cast<std::int64_t>(running_.size());
    if (running + group.width() > config_.max_sequences) break;
    const AllocResult result = allocator_.admit(request, step.plan);
    if (result.status != AllocStatus::ok) {
      step.head_fragmented = result.status == AllocStatus::fragmented;
      break;
    }
    waiting_.pop_front();
    insert_by_arrival(running_, &group);
    running_sequences_ += group.width();
    group.length = group.shared_prefix = result.cached;
    prefill(group, step);
  }
}

void IterationScheduler::share_prefix(const Request& request, AdmitRequest& admission, Step& step) {
  if (config_.prefix == PrefixSharing::none || !request.prefix.valid()) return;
  const Tokens whole = request.prefix_tokens - Tokens(request.prefix_tokens % config_.block_tokens);
  const Tokens length =
      config_.prefix == PrefixSharing::whole_blocks ? whole : request.prefix_tokens;
  if (length == Tokens(0)) return;
  const SequenceGroup* holder = prefix_holder(request, length, step);
  if (holder == nullptr) return;
  // Copies run before the step computes anything, so a partial block can be copied only from a
  // prefix that an earlier step has computed.
  const bool computed = holder->generated > Tokens(0);
  admission.prefix_tokens = computed ? length : whole;
  if (admission.prefix_tokens > Tokens(0)) admission.prefix = holder->sequences.front();
}

// The sequence that keeps a prefix resident for the whole run. The first request that wants it pays
// for computing it; none while there is no room for it, or a request that was let in would no
// longer fit beside it.
const SequenceGroup* IterationScheduler::prefix_holder(const Request& wanted_by, Tokens length,
                                                       Step& step) {
  if (const auto found = prefixes_.find(wanted_by.prefix); found != prefixes_.end()) {
    return &found->second;
  }
  const auto refused = refused_.find(wanted_by.prefix);
  if (refused != refused_.end() && refused->second == completed_) return nullptr;
  const Tokens slots =
      config_.block_tokens * ceil_div(length.count(), config_.block_tokens.count());
  const auto fits = [&](const SequenceGroup* group) {
    return fits_beside(prefix_slots_ + slots, *group);
  };
  // Nothing is swapped while something is admitted.
  if (!std::ranges::all_of(waiting_, fits) || !std::ranges::all_of(running_, fits)) {
    refused_[wanted_by.prefix] = completed_;
    return nullptr;
  }
  const SeqId seq = seq_ids_.take();
  const AdmitRequest admission{.group = std::span(&seq, 1),
                               .prompt = length,
                               .expected_total = length,
                               .keep_free = config_.keep_free};
  if (allocator_.admit(admission, step.plan).status != AllocStatus::ok) {
    seq_ids_.give_back(seq);
    return nullptr;
  }
  SequenceGroup& holder = prefixes_[wanted_by.prefix];
  holder.request = wanted_by;
  holder.request.prompt = holder.request.prefix_tokens = length;
  holder.request.output = Tokens(0);
  holder.sequences = {seq};
  holder.length = holder.expected_total = length;
  holders_.push_back(&holder);
  prefix_slots_ += slots;
  step.groups.push_back({.request = &holder.request,
                         .sequences = holder.sequences,
                         .first = Tokens(0),
                         .count = length,
                         .shared = false,
                         .draws = false});
  step.totals.prompt_tokens += length;
  return &holder;
}

void IterationScheduler::complete(std::vector<SequenceGroup*>& finished) {
  const auto end = std::remove_if(running_.begin(), running_.end(), [&](SequenceGroup* group) {
    if (!group->done()) return false;
    running_sequences_ -= group->width();
    ++completed_;
    finished.push_back(group);
    return true;
  });
  running_.erase(end, running_.end());
}

}  // namespace kvstow
