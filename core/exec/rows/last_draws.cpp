#include "core/exec/rows/last_draws.h"

#include <algorithm>

#include "core/check.h"

namespace kvstow {

void LastDraws::replace(std::span<const SeqId> sequences) {
  draw_of_.assign(draw_of_.size(), -1);
  for (std::size_t i = 0; i < sequences.size(); ++i) {
    const std::size_t seq = sequences[i].index();
    if (seq >= draw_of_.size()) draw_of_.resize(seq + 1, -1);
    draw_of_[seq] = static_cast<std::int32_t>(i);
  }
}

// Of several generated tokens that are recomputed at once some are older than the last draw.
bool LastDraws::suffice(const Step& step, TokenHistories& histories) const {
  return std::all_of(step.groups.begin(), step.groups.end(), [&](const StepGroup& group) {
    return std::all_of(group.sequences.begin(), group.sequences.end(), [&](SeqId seq) {
      return histories.of(seq, *group.request).on_their_way == 0 ||
             (group.count == Tokens(1) && of(seq) >= 0);
    });
  });
}

void LastDraws::feed(ForwardRows& rows) const {
  for (std::int32_t& token : rows.token) {
    if (token >= 0) continue;
    const std::int32_t draw = of(SeqId(static_cast<std::uint32_t>(~token)));
    KVSTOW_CHECK(draw >= 0, "a step feeds back a token that the step before it did not draw");
    token = ~draw;
  }
}

std::int32_t LastDraws::of(SeqId seq) const {
  return seq.index() < draw_of_.size() ? draw_of_[seq.index()] : -1;
}

}  // namespace kvstow
