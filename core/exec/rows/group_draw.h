// What the sequences of a group draw, on real logits.
#pragma once

#include <span>
#include <vector>

#include "core/exec/rows/beam_step.h"
#include "core/exec/rows/sampling.h"
#include "core/exec/rows/token_histories.h"
#include "core/exec/step.h"

namespace kvstow {

// The output position that a group draws in this step.
[[nodiscard]] inline Tokens output_position(const StepGroup& group) {
  return group.first + group.count - group.request->prompt;
}

// Until the first token is drawn all sequences of a group are one, whether or not they share slots.
[[nodiscard]] inline bool one_history(const StepGroup& group) {
  return output_position(group) == Tokens(0);
}

// Draws a token for each sequence of the group and appends what was drawn. `logits` has one row of
// `vocab` for each sequence, or a single row while they share a history.
void draw_group(const StepGroup&, std::span<const float> logits, int vocab, const SamplingConfig&,
                std::uint64_t seed, TokenHistories&, std::vector<TokenOut>& out);

// One step of beam search: rearranges the group's histories too. REQUIRES: one row of candidates
// for each beam, or a single one for one_history.
void draw_beams(const StepGroup&, const BeamCandidates&, TokenHistories&,
                std::vector<TokenOut>& out);

}  // namespace kvstow
