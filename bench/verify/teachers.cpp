#include "bench/verify/teachers.h"

#include <algorithm>
#include <cmath>

#include "core/check.h"
#include "core/exec/rows/group_draw.h"

namespace kvstow {
namespace {

double relative_l2(std::span<const float> found, std::span<const float> expected) {
  double error = 0;
  double norm = 0;
  for (std::size_t i = 0; i < found.size(); ++i) {
    const double difference = double{found[i]} - double{expected[i]};
    error += difference * difference;
    norm += double{expected[i]} * double{expected[i]};
  }
  return std::sqrt(error / norm);
}

// Row `sample` of logits that may be one row for all.
std::span<const float> row_of(std::span<const float> logits, std::size_t sample,
                              std::size_t width) {
  return logits.subspan(logits.size() == width ? 0 : sample * width, width);
}

}  // namespace

void ReferenceTeacher::draw(const StepGroup& group, std::span<const float> logits, int vocab,
                            TokenHistories& histories, std::vector<TokenOut>& out) {
  const std::size_t before = out.size();
  draw_group(group, logits, vocab, sampling_, seed_, histories, out);
  RememberedDraw drawn{.logits = {logits.begin(), logits.end()}, .choices = {}};
  for (const TokenOut& token : std::span(out).subspan(before)) {
    const auto parent = std::ranges::find(group.sequences, token.parent);
    drawn.choices.push_back(
        {static_cast<std::size_t>(parent - group.sequences.begin()), token.token, token.logprob});
  }
  auto& draws = draws_[group.request->id.index()];
  KVSTOW_CHECK(std::ssize(draws) == output_position(group).count(),
               "an output position drawn twice");
  draws.push_back(std::move(drawn));
}

void ForcingTeacher::draw(const StepGroup& group, std::span<const float> logits, int vocab,
                          TokenHistories& histories, std::vector<TokenOut>& out) {
  const Request& request = *group.request;
  const auto position = static_cast<std::size_t>(output_position(group).count());
  const RememberedDraw& right = reference_[request.id.index()].at(position);
  const auto width = static_cast<std::size_t>(vocab);
  for (std::size_t row = 0; row < logits.size() / width; ++row) {
    compare(group, row, row_of(logits, row, width), row_of(right.logits, row, width));
  }
  std::vector<TokenHistory> before;
  for (const SeqId seq : group.sequences) before.push_back(histories.of(seq, request));
  for (std::size_t i = 0; i < group.sequences.size(); ++i) {
    const RememberedDraw::Choice& choice = right.choices[i];
    const SeqId seq = group.sequences[i];
    TokenHistory& history = histories.of(seq, request);
    history = before[choice.parent];
    history.tokens.push_back(choice.token);
    out.push_back({seq, group.sequences[choice.parent], choice.token, choice.logprob});
  }
}

void ForcingTeacher::compare(const StepGroup& group, std::size_t sample,
                             std::span<const float> found, std::span<const float> expected) {
  const double error = relative_l2(found, expected);
  check_finite(std::isfinite(error));
  ++verdict_.rows;
  verdict_.largest = std::max(verdict_.largest, error);
  if (error <= verdict_.tolerance) return;
  beyond_[group.request->id.index()] = true;
  if (verdict_.beyond++ > 0) return;
  verdict_.first = {group.request->id, sample, output_position(group), error};
}

}  // namespace kvstow
