// One step of beam search for a group of a step, on real logits.
#pragma once

#include <span>
#include <vector>

#include "core/exec/rows/token_histories.h"
#include "core/exec/step.h"

namespace kvstow {

// Draws a token for each sequence of the group, rearranges their histories, and appends what was
// drawn. `logits` has one row of `vocab` for each sequence, or a single row while they share a
// history.
void draw_beams(const StepGroup&, std::span<const float> logits, int vocab, TokenHistories&,
                std::vector<TokenOut>& out);

}  // namespace kvstow
