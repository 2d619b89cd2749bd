#include "core/exec/rows/group_draw.h"

#include "core/check.h"

namespace kvstow {
namespace {

void draw_samples(const StepGroup& group, std::span<const float> logits, int vocab,
                  const SamplingConfig& sampling, std::uint64_t seed, TokenHistories& histories,
                  std::vector<TokenOut>& out) {
  const Request& request = *group.request;
  const auto width = static_cast<std::size_t>(vocab);
  const bool one = logits.size() == width;
  const Tokens position = output_position(group);
  for (std::size_t i = 0; i < group.sequences.size(); ++i) {
    const auto row = logits.subspan(one ? 0 : i * width, width);
    const double uniform = uniform_for(seed, request.id, static_cast<std::uint32_t>(i), position);
    const DrawnToken drawn = draw_token(row, sampling, uniform);
    TokenHistory& history = histories.of(group.sequences[i], request);
    KVSTOW_CHECK(std::ssize(history.tokens) == position.count(), "an output position drawn twice");
    history.tokens.push_back(drawn.token);
    out.push_back({group.sequences[i], group.sequences[i], drawn.token, drawn.logprob});
  }
}

}  // namespace

void draw_group(const StepGroup& group, std::span<const float> logits, int vocab,
                const SamplingConfig& sampling, std::uint64_t seed, TokenHistories& histories,
                std::vector<TokenOut>& out) {
  if (group.request->decoding.kind == DecodingKind::beam) {
    draw_beams(group, logits, vocab, histories, out);
  } else {
    draw_samples(group, logits, vocab, sampling, seed, histories, out);
  }
}

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
