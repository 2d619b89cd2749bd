// Whatever carries steps out: a cost model on a simulated clock, a CPU, a GPU. The same Step for
// all.
#pragma once

#include "core/exec/step.h"

namespace kvstow {

// submit() and wait() are apart so that a device can run ahead of the host. Steps complete in the
// order of their submission; the Step must stay unchanged until its wait() returns.
class Executor {
 public:
  virtual ~Executor() = default;
  virtual void submit(const Step&) = 0;
  virtual StepResult wait() = 0;

  // A hash of the tokens drawn for a sequence so far, in order; 0 where nothing is drawn for real.
  [[nodiscard]] virtual std::uint64_t token_hash(SeqId) const { return 0; }
};

}  // namespace kvstow
