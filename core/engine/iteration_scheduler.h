// Iteration-level first-come-first-served scheduling (Orca; PagedAttention paper, section 4.5, in
// the order of the authors' artifact). One iteration:
//  1. running groups in order of arrival get room for one more token each; while there is none, the
//     latest-arrived group is preempted;
//  2. if nothing was swapped out: swapped groups come back, in order of arrival;
//  3. if nothing is swapped: waiting groups are admitted in order of arrival while memory, token
//     budget and sequence cap hold. The first that does not fit ends admission (head-of-line).
// Prompts and decodes run in the same iteration. With chunked prefill (Sarathi-Serve, Agrawal et
// al., OSDI 2024) an iteration computes as much of a prompt as the budget has left, and goes on
// with it before 3.; memory is still taken for the whole prompt at once, and a prefix that is made
// resident is computed whole, beside the budget.
#pragma once

#include <deque>
#include <unordered_map>

#include "core/engine/length_estimate.h"
#include "core/engine/scheduler.h"
#include "core/engine/seq_ids.h"
#include "core/kv/kv_allocator.h"

namespace kvstow {

// What happens to a preempted group. A group of several sequences is swapped under every policy:
// its members' generated tokens differ, and the artifact cannot recompute them either.
enum class Preemption : std::uint8_t {
  recompute,  // drop K and V; prompt + generated tokens become the new prompt, at the queue's front
  swap,       // move K and V to the host
};

// What of a shared prefix is kept resident and mapped into every request that starts with it.
enum class PrefixSharing : std::uint8_t {
  none,           // every request computes and stores its own
  whole_blocks,   // the prefix trimmed to whole blocks; the artifact's choice
  copy_on_write,  // all of it; the partial last block is copied when a request extends it
};

struct IterationConfig {
  Tokens max_batched_tokens{2560};  // per iteration: prompts (one per group) + running sequences
  std::int64_t max_sequences = 256;
  Tokens keep_free{0};  // watermark: slots an admission must leave free
  Tokens max_model_len{2048};
  LengthEstimate estimate = nullptr;
  Preemption preemption = Preemption::recompute;
  bool share_prompt = true;  // samples of a request start out on the same slots
  PrefixSharing prefix = PrefixSharing::none;
  Tokens block_tokens{16};       // for PrefixSharing::whole_blocks
  bool chunked_prefill = false;  // prompts may take several iterations
};

class IterationScheduler final : public Scheduler {
 public:
  // Both must outlive the scheduler.
  IterationScheduler(const IterationConfig&, KvAllocator&, SeqIds&);

  [[nodiscard]] bool add(SequenceGroup&) override;
  void schedule(Step&) override;
  void complete(std::vector<SequenceGroup*>& finished) override;
  [[nodiscard]] std::span<SequenceGroup* const> resident() const override { return running_; }
  [[nodiscard]] std::span<SequenceGroup* const> preempted() const override { return preempted_; }
  [[nodiscard]] std::span<SequenceGroup* const> prefix_holders() const override { return holders_; }
  [[nodiscard]] QueueLengths queues() const override {
    return {static_cast<std::int64_t>(waiting_.size()), static_cast<std::int64_t>(swapped_.size())};
  }

 private:
  void grow_running(Step&);
  void swap_in(Step&);
  void continue_prompts(Step&);
  void admit_waiting(Step&);
  void prefill(SequenceGroup&, Step&);
  void preempt(SequenceGroup&, Preemption how, Step&);
  [[nodiscard]] AdmitRequest request_for(const SequenceGroup&) const;
  // Resident prefixes never leave, and a request may have to run without sharing its own.
  [[nodiscard]] bool fits_beside(Tokens prefixes, const SequenceGroup&) const;
  void share_prefix(const Request&, AdmitRequest&, Step&);
  [[nodiscard]] Preemption how_to_preempt(const SequenceGroup&) const;
  [[nodiscard]] const SequenceGroup* prefix_holder(const Request&, Tokens length, Step&);

  IterationConfig config_;
  KvAllocator& allocator_;
  SeqIds& seq_ids_;
  std::vector<SequenceGroup*> running_;    // by arrival
  std::deque<SequenceGroup*> waiting_;     // by arrival
  std::deque<SequenceGroup*> swapped_;     // by arrival
  std::vector<SequenceGroup*> preempted_;  // by the last schedule()
  std::int64_t running_sequences_ = 0;
  Tokens batched_{0};  // of the budget, by this schedule(): decodes, and prompts once a group
  bool swapped_out_ = false;  // by the last schedule()

  std::unordered_map<PrefixId, SequenceGroup> prefixes_;  // node-based: Steps point into the groups
  std::vector<SequenceGroup*> holders_;
  Tokens prefix_slots_{0};  // of the holders, in whole blocks
  // Prefixes beside which some group would not fit, and completed_ when that was found: only a
  // group that leaves can change it.
  std::unordered_map<PrefixId, std::int64_t> refused_;
  std::int64_t completed_ = 0;  // groups
};

}  // namespace kvstow
