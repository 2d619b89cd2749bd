// The one loop: arrivals -> scheduler -> step -> executor -> tokens -> metrics. Every system, every
// executor and every clock goes through it.
#pragma once

#include <deque>
#include <memory>
#include <vector>

#include "core/engine/clock.h"
#include "core/engine/scheduler.h"
#include "core/engine/seq_ids.h"
#include "core/engine/waste_ledger.h"
#include "core/exec/executor.h"
#include "core/kv/kv_allocator.h"
#include "core/metrics/events.h"

namespace kvstow {

// All of them outlive the engine. `seq_ids` is the one the scheduler uses.
struct EngineParts {
  TraceSource& trace;
  Scheduler& scheduler;
  KvAllocator& allocator;
  Executor& executor;
  Clock& clock;
  MetricsSink& metrics;
  SeqIds& seq_ids;
};

class Engine {
 public:
  explicit Engine(const EngineParts&);

  // Runs the trace to its end: every request finishes or is rejected, and every slot is free again
  // (checked). Throws InvariantError where the waste ledger does not close.
  void run();

 private:
  void take_arrivals();
  void execute();
  [[nodiscard]] bool count_tokens(Seconds begin);
  void follow_beams(std::span<const TokenOut>);
  void finish(SequenceGroup&);
  void report_step(Seconds begin, const StepResult&);
  [[nodiscard]] SequenceGroup& new_group(Request&&);

  TraceSource& trace_;
  Scheduler& scheduler_;
  KvAllocator& allocator_;
  Executor& executor_;
  Clock& clock_;
  MetricsSink& metrics_;
  SeqIds& seq_ids_;
  WasteLedger ledger_;

  std::optional<Request> next_;         // the next arrival, not yet due
  std::deque<SequenceGroup> groups_;    // stable addresses
  std::vector<SequenceGroup*> unused_;  // of groups_, to be recycled
  std::vector<SequenceGroup*> finished_;
  std::vector<RequestId> owner_;  // by SeqId
  std::vector<Fork> forks_;
  Step step_;
  MemPlan after_step_;  // what releases and beam steps asked for; runs first in the next step
  std::int64_t in_flight_ = 0;
  std::int64_t steps_ = 0;
};

}  // namespace kvstow
