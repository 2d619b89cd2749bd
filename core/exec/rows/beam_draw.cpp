#include "core/exec/rows/beam_draw.h"

#include "core/engine/sampling.h"

namespace kvstow {

void draw_beams(const StepGroup& group, std::span<const float> logits, int vocab,
                TokenHistories& histories, std::vector<TokenOut>& out) {
  const Request& request = *group.request;
  std::vector<TokenHistory> before;
  std::vector<double> scores;
  for (const SeqId seq : group.sequences) {
    before.push_back(histories.of(seq, request));
    scores.push_back(before.back().score);
  }
  // Until the first token is drawn all beams are one, whether or not they share slots.
  const bool one = before.front().tokens.empty();
  const std::vector<BeamChoice> chosen =
      beam_step(one ? logits.first(static_cast<std::size_t>(vocab)) : logits, vocab, scores);
  for (std::size_t i = 0; i < chosen.size(); ++i) {
    const BeamChoice& choice = chosen[i];
    const SeqId seq = group.sequences[i];
    TokenHistory& history = histories.of(seq, request);
    history = before[static_cast<std::size_t>(choice.parent)];
    history.tokens.push_back(choice.token);
    history.score = choice.score;
    out.push_back({seq, group.sequences[static_cast<std::size_t>(choice.parent)], choice.token,
                   choice.logprob});
  }
}

}  // namespace kvstow
