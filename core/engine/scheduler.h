// Decides what runs next. Queues and an allocator in, a Step out; no clock, no device.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "core/engine/sequence_group.h"
#include "core/exec/step.h"

namespace kvstow {

struct QueueLengths {
  std::int64_t waiting = 0;  // groups not on the device, their K and V not computed or dropped
  std::int64_t swapped = 0;  // groups whose K and V are on the host
};

class Scheduler {
 public:
  virtual ~Scheduler() = default;

  // A new arrival, at the back of the queue. False: it could never run here (at its full true
  // length in an empty pool), and the scheduler has not kept it. The group stays the caller's and
  // must live until complete() returns it.
  [[nodiscard]] virtual bool add(SequenceGroup&) = 0;

  // Makes the next step. The plan may already hold work of the caller's; the scheduler appends.
  virtual void schedule(Step&) = 0;

  // Called when the step's tokens have been counted into the groups and some group is done: appends
  // the groups that are finished and forgets them. Their memory is still allocated; the caller
  // releases it.
  virtual void complete(std::vector<SequenceGroup*>& finished) = 0;

  // Groups that hold device memory, in the order of the last step.
  [[nodiscard]] virtual std::span<SequenceGroup* const> resident() const = 0;

  // Groups preempted by the last schedule().
  [[nodiscard]] virtual std::span<SequenceGroup* const> preempted() const = 0;

  // Shared prefixes kept on the device: groups of one sequence that belong to no request and never
  // decode. The caller releases their memory at the end of the run.
  [[nodiscard]] virtual std::span<SequenceGroup* const> prefix_holders() const { return {}; }

  [[nodiscard]] virtual QueueLengths queues() const = 0;
};

}  // namespace kvstow
