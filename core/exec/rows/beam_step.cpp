#include "core/exec/rows/beam_step.h"

#include "core/check.h"
#include "core/exec/rows/sampling.h"

namespace kvstow {
namespace {

// The continuations of all rows, best first: each row's stand in order, so the best one left is at
// the head of some row, of equals at that of the first.
class Continuations {
 public:
  Continuations(const BeamCandidates& candidates, std::span<const double> scores)
      : candidates_(candidates), scores_(scores) {
    for (int row = 0; row < candidates.rows; ++row) heads_.push_back(at(row, 0));
    taken_.resize(heads_.size());
  }

  BeamChoice take() {
    const BeamChoice* best = nullptr;
    for (std::size_t row = 0; row < heads_.size(); ++row) {
      if (taken_[row] == candidates_.count) continue;
      if (best == nullptr || heads_[row].score > best->score) best = &heads_[row];
    }
    KVSTOW_CHECK(best != nullptr, "the vocabulary is smaller than the beam");
    const BeamChoice choice = *best;
    const auto row = static_cast<std::size_t>(choice.parent);
    if (++taken_[row] < candidates_.count) heads_[row] = at(choice.parent, taken_[row]);
    return choice;
  }

 private:
  [[nodiscard]] BeamChoice at(int row, int place) const {
    const std::int64_t from = std::int64_t{row} * candidates_.stride + place;
    const double logprob = double{candidates_.logit[from]} - candidates_.log_sum[row];
    return {row, candidates_.token[from], static_cast<float>(logprob),
            scores_[static_cast<std::size_t>(row)] + logprob};
  }

  const BeamCandidates& candidates_;
  std::span<const double> scores_;
  std::vector<BeamChoice> heads_;  // by row
  std::vector<int> taken_;         // by row
};

}  // namespace

HostCandidates::HostCandidates(std::span<const float> logits, int vocab, std::size_t width) {
  const auto row = static_cast<std::size_t>(vocab);
  for (; !logits.empty(); logits = logits.subspan(row)) {
    const auto own = logits.first(row);
    log_sum_.push_back(log_sum_exp(own));
    for (const std::int32_t token : likeliest(own, width)) {
      token_.push_back(token);
      logit_.push_back(own[static_cast<std::size_t>(token)]);
    }
  }
}

BeamCandidates HostCandidates::view() const {
  const auto count = static_cast<int>(token_.size() / log_sum_.size());
  return {static_cast<int>(log_sum_.size()),
          count,
          count,
          log_sum_.data(),
          token_.data(),
          logit_.data()};
}

std::vector<BeamChoice> beam_step(const BeamCandidates& candidates,
                                  std::span<const double> scores) {
  const std::size_t width = scores.size();
  const auto rows = static_cast<std::size_t>(candidates.rows);
  KVSTOW_CHECK(rows == width || rows == 1, "a beam step needs a row for each beam, or one for all");
  Continuations continuations(candidates, scores);
  std::vector<BeamChoice> chosen(width);
  if (rows == 1) {  // one history: nobody has to move
    for (std::size_t i = 0; i < width; ++i) {
      chosen[i] = continuations.take();
      chosen[i].parent = static_cast<std::int32_t>(i);
    }
    return chosen;
  }
  std::vector<bool> taken(width, false);
  std::vector<BeamChoice> forked;
  for (std::size_t i = 0; i < width; ++i) {
    const BeamChoice choice = continuations.take();
    const auto parent = static_cast<std::size_t>(choice.parent);
    if (taken[parent]) {
      forked.push_back(choice);
    } else {
      taken[parent] = true;
      chosen[parent] = choice;
    }
  }
  std::size_t next = 0;
  for (const BeamChoice& choice : forked) {
    while (taken[next]) ++next;
    taken[next] = true;
    chosen[next] = choice;
  }
  return chosen;
}

}  // namespace kvstow
