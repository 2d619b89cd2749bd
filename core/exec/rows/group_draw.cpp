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
  if (group.request->decoding.kind != DecodingKind::beam) {
    return draw_samples(group, logits, vocab, sampling, seed, histories, out);
  }
  if (one_history(group)) logits = logits.first(static_cast<std::size_t>(vocab));
  draw_beams(group, HostCandidates(logits, vocab, group.sequences.size()).view(), histories, out);
}

void draw_beams(const StepGroup& group, const BeamCandidates& candidates, TokenHistories& histories,
                std::vector<TokenOut>& out) {
  const Request& request = *group.request;
  std::vector<double> scores;
  for (const SeqId seq : group.sequences) scores.push_back(histories.of(seq, request).score);
  const std::vector<BeamChoice> chosen = beam_step(candidates, scores);
  const auto parent_of = [&](std::size_t i) {
    return group.sequences[static_cast<std::size_t>(chosen[i].parent)];
  };
  // Parents stay in place: what dead beams take over is still without this step's token.
  for (std::size_t i = 0; i < chosen.size(); ++i) {
    const SeqId seq = group.sequences[i];
    if (parent_of(i) == seq) continue;
    histories.of(seq, request).tokens = histories.of(parent_of(i), request).tokens;
  }
  for (std::size_t i = 0; i < chosen.size(); ++i) {
    const SeqId seq = group.sequences[i];
    TokenHistory& history = histories.of(seq, request);
    history.tokens.push_back(chosen[i].token);
    history.score = chosen[i].score;
    out.push_back({seq, parent_of(i), chosen[i].token, chosen[i].logprob});
  }
}

}  // namespace kvstow
