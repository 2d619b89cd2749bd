#include "baselines/static_batch_scheduler.h"

#include "core/check.h"

namespace kvstow {

StaticBatchScheduler::StaticBatchScheduler(const StaticBatchConfig& config, KvAllocator& allocator)
    : config_(config), allocator_(allocator) {
  KVSTOW_CHECK(config_.batch_size > 0, "a static batch has at least one member");
}

AdmitRequest StaticBatchScheduler::request_for(const SequenceGroup& group, Tokens total) const {
  return {.group = group.sequences, .prompt = group.request.prompt, .expected_total = total};
}

bool StaticBatchScheduler::add(SequenceGroup& group) {
  const Tokens total = group.true_total();
  if (total > config_.batch_limit || !allocator_.fits_empty_pool(request_for(group, total))) {
    return false;
  }
  waiting_.push_back(&group);
  return true;
}

void StaticBatchScheduler::schedule(Step& step) {
  if (batch_.empty()) {
    form_batch(step);
  } else {
    decode(step);
  }
  step.totals.groups = static_cast<std::int64_t>(batch_.size());
  step.totals.sequences = 0;
  for (const SequenceGroup* group : batch_) step.totals.sequences += group->width();
}

std::size_t StaticBatchScheduler::count_candidates() const {
  Tokens prompt{0};
  Tokens output{0};
  std::size_t members = 0;
  for (const SequenceGroup* group : waiting_) {
    if (static_cast<std::int64_t>(members) == config_.batch_size) break;
    prompt = max(prompt, group->request.prompt);
    output = max(output, group->request.output);
    if (prompt + output > config_.batch_limit) break;
    ++members;
  }
  return members;
}

// Reserves for the first `members` of the queue; returns how many the allocator took.
std::size_t StaticBatchScheduler::admit(std::size_t members, Step& step) {
  padded_prompt_ = longest_output_ = Tokens(0);
  for (std::size_t i = 0; i < members; ++i) {
    padded_prompt_ = max(padded_prompt_, waiting_[i]->request.prompt);
    longest_output_ = max(longest_output_, waiting_[i]->request.output);
  }
  for (std::size_t i = 0; i < members; ++i) {
    waiting_[i]->expected_total = padded_prompt_ + longest_output_;
    const AdmitRequest request = request_for(*waiting_[i], waiting_[i]->expected_total);
    const AllocStatus status = allocator_.admit(request, step.plan).status;
    if (status != AllocStatus::ok) {
      step.head_fragmented = status == AllocStatus::fragmented;
      return i;
    }
  }
  return members;
}

void StaticBatchScheduler::form_batch(Step& step) {
  // Where the allocator refuses a member, the batch ends before it, and its maxima with it.
  std::size_t members = count_candidates();
  for (std::size_t taken = admit(members, step); taken < members; taken = admit(members, step)) {
    for (std::size_t i = 0; i < taken; ++i) {
      for (const SeqId seq : waiting_[i]->sequences) allocator_.release(seq, step.plan);
    }
    members = taken;
  }
  steps_ = Tokens(1);
  for (std::size_t i = 0; i < members; ++i) {
    SequenceGroup& group = *waiting_.front();
    waiting_.pop_front();
    batch_.push_back(&group);
    group.length = group.request.prompt;
    step.groups.push_back({.request = &group.request,
                           .sequences = group.sequences,
                           .first = Tokens(0),
                           .count = group.request.prompt,
                           .shared = false});
    step.totals.prompt_tokens += padded_prompt_ * group.width();
  }
}

// Finished members keep computing padding until the batch ends: they cost time, they draw nothing.
void StaticBatchScheduler::decode(Step& step) {
  const Tokens padded_length = padded_prompt_ + steps_;
  for (SequenceGroup* group : batch_) {
    step.totals.decode_tokens += Tokens(group->width());
    step.totals.kv_read += padded_length * group->width();
    if (group->done()) {
      group->tail = {};
      continue;
    }
    const AllocStatus grown =
        allocator_.grow(group->sequences, group->length + Tokens(1), step.plan);
    KVSTOW_CHECK(grown == AllocStatus::ok, "a member must have room for its reserved total");
    step.groups.push_back({.request = &group->request,
                           .sequences = group->sequences,
                           .first = group->length,
                           .count = Tokens(1),
                           .shared = false});
    ++group->length;
  }
  ++steps_;
}

void StaticBatchScheduler::complete(std::vector<SequenceGroup*>& finished) {
  if (steps_ < longest_output_) return;
  finished.insert(finished.end(), batch_.begin(), batch_.end());
  batch_.clear();
}

}  // namespace kvstow
