// Whatever carries steps out: a cost model on a simulated clock, a CPU, a GPU. The same Step for
// all.
#pragma once

#include "core/exec/step.h"

namespace kvstow {

// submit() and wait() are apart so that a device can run while the host decides what comes next.
// Steps complete in the order of their submission; a Step, and the groups it points to, must stay
// unchanged until its wait() returns. The allocator may move on: what a step needs of it is read by
// submit().
class Executor {
 public:
  virtual ~Executor() = default;
  virtual void submit(const Step&) = 0;
  virtual StepResult wait() = 0;

  // Steps that may have been submitted and not waited for. With more than one the engine decides
  // the next step before the last one's tokens are known, which it may wherever they decide
  // nothing.
  [[nodiscard]] virtual int depth() const { return 1; }

  // A hash of the tokens drawn for a sequence so far, in order; 0 where nothing is drawn for real.
  [[nodiscard]] virtual std::uint64_t token_hash(SeqId) const { return 0; }
};

}  // namespace kvstow
