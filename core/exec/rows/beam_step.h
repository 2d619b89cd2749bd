// One step of beam search, on candidates: what is left of the logits when each row has kept its
// likeliest tokens, on the host or on a device.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

namespace kvstow {

// The likeliest tokens of each row, best first, ties by token: as many as the group has beams, or
// the whole vocabulary where that is smaller. One row for each beam, or a single row while all
// beams still have one history.
struct BeamCandidates {
  int rows;
  int count;                  // tokens of a row
  int stride;                 // places from one row's first token to the next row's
  const double* log_sum;      // [rows] log(sum(exp(logits)))
  const std::int32_t* token;  // [rows, stride]
  const float* logit;         // [rows, stride]
};

// Candidates of logits on the host, [rows, vocab]. Throws InvariantError where one is not finite.
class HostCandidates {
 public:
  HostCandidates(std::span<const float> logits, int vocab, std::size_t width);
  [[nodiscard]] BeamCandidates view() const;

 private:
  std::vector<double> log_sum_;
  std::vector<std::int32_t> token_;
  std::vector<float> logit_;
};

// What a beam step decided for one sequence of the group.
struct BeamChoice {
  std::int32_t parent;  // index in the group; its own where the beam goes on
  std::int32_t token;
  float logprob;
  double score;  // sum of the log-probabilities of the hypothesis
};

// Of all continuations of all beams the `scores.size()` best, ordered by score, then parent, then
// token. Result [i] is for sequence i of the group: a beam with any continuation among the best
// keeps its sequence for the best of them; the others go to the sequences of the dead beams, in
// order.
[[nodiscard]] std::vector<BeamChoice> beam_step(const BeamCandidates&,
                                                std::span<const double> scores);

}  // namespace kvstow
