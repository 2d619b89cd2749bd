// From logits to a token. Random numbers are keyed, not streamed: the draw for one output position
// of one sample is the same whatever ran before it, in whichever batch, preempted or not.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "core/types.h"

namespace kvstow {

struct SamplingConfig {
  double temperature = 0;  // 0: greedy, and the other two are ignored
  int top_k = 0;           // > 0: only the k likeliest tokens
  double top_p = 1;        // < 1: only the likeliest tokens that together reach this probability
};

// Uniform in [0, 1) for one draw.
[[nodiscard]] double uniform_for(std::uint64_t seed, RequestId, std::uint32_t sample,
                                 Tokens output_position);

struct DrawnToken {
  std::int32_t token;
  float logprob;  // under the unmodified distribution
};

// Ties go to the smaller token. Throws InvariantError where a logit is not finite: some K or V was
// read that nobody had written. REQUIRES: logits not empty; `uniform` is unused when greedy.
[[nodiscard]] DrawnToken draw_token(std::span<const float> logits, const SamplingConfig&,
                                    double uniform);

// What a beam step decided for one sequence of the group.
struct BeamChoice {
  std::int32_t parent;  // index in the group; its own where the beam goes on
  std::int32_t token;
  float logprob;
  double score;  // sum of the log-probabilities of the hypothesis
};

// One step of beam search: of all continuations of all beams the `scores.size()` best, ordered by
// score, then parent, then token. Result [i] is for sequence i of the group: a beam with any
// continuation among the best keeps its sequence for the best of them; the others go to the
// sequences of the dead beams, in order. `logits` has one row of `vocab` for each beam, or a single
// row while all beams still have one history.
[[nodiscard]] std::vector<BeamChoice> beam_step(std::span<const float> logits, int vocab,
                                                std::span<const double> scores);

}  // namespace kvstow
