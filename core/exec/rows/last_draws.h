// Tokens that an executor feeds back before the host knows them: whoever runs them looks them up
// among the draws of the step before.
#pragma once

#include <span>
#include <vector>

#include "core/exec/rows/forward_rows.h"
#include "core/exec/rows/token_histories.h"
#include "core/exec/step.h"

namespace kvstow {

class LastDraws {
 public:
  // A step was submitted whose draw number i is for sequence[i].
  void replace(std::span<const SeqId> sequences);

  // Whether the next step can be fed: not where it needs a token that an earlier step draws, of
  // which the host has yet to be told. So it is when a sequence comes back one step after it was
  // preempted, or two.
  [[nodiscard]] bool suffice(const Step&, TokenHistories&) const;

  // From ~sequence to ~draw. Throws InvariantError where that sequence drew nothing.
  void feed(ForwardRows&) const;

 private:
  [[nodiscard]] std::int32_t of(SeqId) const;  // -1: none

  std::vector<std::int32_t> draw_of_;  // by SeqId
};

}  // namespace kvstow
