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

// Ties go to the smaller token. Throws as log_sum_exp does. REQUIRES: logits not empty; `uniform`
// is unused when greedy.
[[nodiscard]] DrawnToken draw_token(std::span<const float> logits, const SamplingConfig&,
                                    double uniform);

// Throws InvariantError where a logit is not finite: some K or V was read that nobody had written.
void check_finite(bool finite);

// log(sum(exp(logits))). Throws as check_finite does. REQUIRES: logits not empty.
[[nodiscard]] double log_sum_exp(std::span<const float> logits);

// The `count` likeliest tokens (all, where there are fewer), best first, ties by token.
[[nodiscard]] std::vector<std::int32_t> likeliest(std::span<const float> logits, std::size_t count);

}  // namespace kvstow
