// The one loop: arrivals -> scheduler -> step -> executor -> tokens -> metrics. Every system, every
// executor and every clock goes through it.
//
// An executor that runs ahead has several steps in flight. The books of a step (lengths, memory,
// queues) are closed when it is submitted, because they follow from the schedule alone; its times
// and tokens are reported when it is settled. Beam search needs the tokens: it settles before it
// goes on.
#pragma once

#include <deque>
#include <limits>
#include <memory>
#include <vector>

#include "core/engine/clock.h"
#include "core/engine/scheduler.h"
#include "core/engine/seq_ids.h"
#include "core/engine/waste_ledger.h"
#include "core/exec/executor.h"
#include "core/kv/kv_allocator.h"
#include "core/metrics/events.h"
#include "core/metrics/host_profile.h"

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
  Seconds stop_at = std::numeric_limits<Seconds>::infinity();  // no step begins then or later
  HostProfile* profile = nullptr;  // where the host's time goes, if anyone asks
};

class Engine {
 public:
  explicit Engine(const EngineParts&);

  // Runs the trace to its end: every request finishes or is rejected, and every slot is free again
  // (checked). Or to `stop_at`, for a system under more load than it can drain: what has not
  // finished by then is not reported. Throws InvariantError where the waste ledger does not close.
  void run();

 private:
  // A step on its way.
  struct InFlight {
    Step step;
    StepEvent event;
    std::vector<SequenceGroup*> chunks;   // groups whose prompt goes on after it
    std::vector<SequenceGroup*> first;    // groups that draw their first token
    std::vector<SequenceGroup*> paused;   // preempted, and not paused before
    std::vector<SequenceGroup*> resumed;  // groups that draw their first one after a preemption
    std::int64_t steady = 0;  // sequences that drew their previous token in the step before
    bool completes = false;   // it is some group's last, and their memory is still allocated
    std::vector<SequenceGroup*> finished;  // not to be recycled before the step is settled
  };

  void take_arrivals();
  void launch();
  void settle();
  void count_tokens(InFlight&);
  void release_finished(InFlight&);
  void follow_beams(std::span<const TokenOut>);
  [[nodiscard]] bool runs_ahead(const Step&) const;
  void report_finished(SequenceGroup&);
  [[nodiscard]] StepEvent describe(const Step&, Seconds scheduled);
  [[nodiscard]] SequenceGroup& new_group(Request&&);

  TraceSource& trace_;
  Scheduler& scheduler_;
  KvAllocator& allocator_;
  Executor& executor_;
  Clock& clock_;
  MetricsSink& metrics_;
  SeqIds& seq_ids_;
  Seconds stop_at_;
  HostProfile* profile_;
  WasteLedger ledger_;

  std::optional<Request> next_;         // the next arrival, not yet due
  std::deque<SequenceGroup> groups_;    // stable addresses
  std::vector<SequenceGroup*> unused_;  // of groups_, to be recycled
  std::vector<RequestId> owner_;        // by SeqId
  std::vector<Fork> forks_;
  std::vector<InFlight> steps_;  // a ring of depth() steps
  MemPlan after_step_;  // what releases and beam steps asked for; runs first in the next step
  std::int64_t requests_in_flight_ = 0;
  std::int64_t submitted_ = 0;
  std::int64_t settled_ = 0;
  Seconds settled_at_ = 0;  // time of the last settle()
};

}  // namespace kvstow
