// Carries no step out, but says how long it would have taken.
#pragma once

#include <memory>

#include "core/exec/beam_model.h"
#include "core/exec/executor.h"
#include "core/exec/step_law.h"

namespace kvstow {

class SimulatedExecutor final : public Executor {
 public:
  // Without a beam model, beams never die (they behave as parallel samples).
  explicit SimulatedExecutor(const StepLaw& law, std::unique_ptr<BeamModel> beams = nullptr)
      : law_(law), beams_(std::move(beams)) {}

  void submit(const Step& step) override {
    result_.elapsed = law_.step_time(step);
    tokens_.clear();
    if (beams_) draw_beams(step);
    result_.tokens = tokens_;
  }
  StepResult wait() override { return result_; }

 private:
  void draw_beams(const Step& step) {
    for (const StepGroup& group : step.groups) {
      const bool beam = group.request->decoding.kind == DecodingKind::beam;
      if (beam && group.draws) beams_->step(group, tokens_);
    }
  }

  StepLaw law_;
  std::unique_ptr<BeamModel> beams_;
  std::vector<TokenOut> tokens_;
  StepResult result_;
};

}  // namespace kvstow
