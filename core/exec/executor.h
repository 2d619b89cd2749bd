// Whatever carries steps out: a cost model on a simulated clock, a CPU, a GPU. The same Step for all.
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
};

}  // namespace kvstow
