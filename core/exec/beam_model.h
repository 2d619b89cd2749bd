// Which beams survive a step, where no logits are there to say so.
#pragma once

#include <memory>
#include <vector>

#include "core/exec/step.h"

namespace kvstow {

// A plug-in of the simulated executor; an executor with real logits replaces it.
class BeamModel {
 public:
  virtual ~BeamModel() = default;
  // Appends one TokenOut for each beam of the group that dies: {beam, the survivor it continues}.
  virtual void step(const StepGroup&, std::vector<TokenOut>&) = 0;
};

// Every step each beam dies with probability `death` and is re-forked from a uniformly chosen
// survivor; where all would die, the first lives. Fitted to one number, the paper's 37.56 % memory
// saving of beam width 2 on Alpaca (Fig. 15); everything else it says is a prediction.
[[nodiscard]] std::unique_ptr<BeamModel> make_death_and_refork(double death, std::uint64_t seed);

}  // namespace kvstow
