#include "workloads/config_check.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "core/check.h"

namespace kvstow {
namespace {

// A run keeps some 100 bytes of each of its requests.
constexpr std::int64_t kMostRequests = 100'000'000;

template <class... Args>
void require(bool holds, fmt::format_string<Args...> what, Args&&... args) {
  if (!holds) throw InputError("workload." + fmt::format(what, std::forward<Args>(args)...));
}

void require_positive(double value, std::string_view key) {
  require(std::isfinite(value) && value > 0, "{}: must be a positive number, is {}", key, value);
}

void require_not_negative(double value, std::string_view key) {
  require(std::isfinite(value) && value >= 0, "{}: must be a number from 0, is {}", key, value);
}

void check_lengths(const WorkloadConfig& c) {
  require(c.max_model_len > Tokens(1), "max_model_len: must be at least 2 tokens, is {}",
          c.max_model_len.count());
  if (c.lengths == LengthLaw::fixed) {
    require(c.fixed_prompt > Tokens(0), "prompt_tokens: must be at least one token, is {}",
            c.fixed_prompt.count());
    require(c.fixed_output > Tokens(0), "output_tokens: must be at least one token, is {}",
            c.fixed_output.count());
    require_not_negative(c.output_cv, "output_cv");
  }
}

void check_arrivals(const WorkloadConfig& c) {
  const bool drawn = c.arrivals == ArrivalLaw::poisson || c.arrivals == ArrivalLaw::gamma;
  if (drawn) {
    require_positive(c.rate_per_s, "rate_per_s");
    require_not_negative(c.quantum_s, "quantum_s");
  } else {
    require_not_negative(c.rate_per_s, "rate_per_s");
  }
  if (c.arrivals == ArrivalLaw::gamma) {
    require_positive(c.burstiness, "burstiness");
    // Far below, all gaps but the rarest are 0 in floating point, and no time passes.
    require(c.burstiness >= 0.001, "burstiness: must be at least 0.001, is {}", c.burstiness);
  }
  require_not_negative(c.duration_s, "duration_s");
  require(c.max_requests >= 0, "max_requests: must be a number from 0, is {}", c.max_requests);
  require(c.max_requests <= kMostRequests, "max_requests: {} exceed a run's {}", c.max_requests,
          kMostRequests);
  const bool endless = c.lengths != LengthLaw::file;
  if (drawn && endless && c.max_requests == 0) {
    const double expected = c.rate_per_s * std::max(c.duration_s, c.quantum_s);
    require(expected <= kMostRequests, "rate_per_s: some {:.3g} requests exceed a run's {}",
            expected, kMostRequests);
  }

  if (c.arrivals == ArrivalLaw::all_at_zero) {
    require(c.max_requests > 0 || (endless == false && c.duration_s == 0),
            "max_requests: needed with arrivals all-at-zero");
  } else if (drawn && endless) {
    require(c.max_requests > 0 || c.duration_s > 0,
            "duration_s: needed (or max_requests): the trace has no end otherwise");
  }
}

void check_file(const WorkloadConfig& c) {
  const bool reads = c.lengths == LengthLaw::file || c.arrivals == ArrivalLaw::trace;
  if (!reads) return;
  require(!c.file.empty(), "file: needed with lengths file and with arrivals trace");
  require(c.file_rows >= 0, "file_rows: must be a number from 0, is {}", c.file_rows);
  require_positive(c.chars_per_token, "chars_per_token");
  require(c.chars_per_token >= 0.001, "chars_per_token: must be at least 0.001, is {}",
          c.chars_per_token);
  require(!(c.shuffle && c.arrivals == ArrivalLaw::trace),
          "shuffle: cannot be used with arrivals trace, whose order is time");
}

void check_decodings(const WorkloadConfig& c) {
  require(!c.decodings.empty(), "decodings: needs at least one");
  double sum = 0;
  for (const DecodingShare& share : c.decodings) {
    const int width = share.decoding.width;
    require_not_negative(share.weight, "decodings: weight");
    if (share.decoding.kind == DecodingKind::single) {
      require(width == 1, "decodings: single has one sequence, not {}", width);
    } else {
      require(width >= 1, "decodings: {} must be at least 1, is {}",
              share.decoding.kind == DecodingKind::beam ? "a beam width" : "a number of samples",
              width);
    }
    sum += share.weight;
  }
  require(sum > 0, "decodings: all weights are 0");
}

void check_scenario(const WorkloadConfig& c) {
  if (c.scenario == Scenario::shared_prefix) {
    require(c.prefix_tokens > Tokens(0), "prefix_tokens: must be at least one token, is {}",
            c.prefix_tokens.count());
    require(c.prefix_tokens + Tokens(2) <= c.max_model_len,
            "prefix_tokens: {} leave no room for a prompt and an output in max_model_len {}",
            c.prefix_tokens.count(), c.max_model_len.count());
  }
  if (c.scenario == Scenario::chatbot) {
    require(c.p_new >= 0 && c.p_new <= 1,
            "new_conversation_probability: must be a probability, is {}", c.p_new);
    require(c.history_limit > Tokens(0), "history_limit_tokens: must be at least one token, is {}",
            c.history_limit.count());
    require(c.output_limit > Tokens(0), "output_limit_tokens: must be at least one token, is {}",
            c.output_limit.count());
    require(c.history_limit + c.output_limit <= c.max_model_len,
            "history_limit_tokens: {} + output_limit_tokens {} exceed max_model_len {}",
            c.history_limit.count(), c.output_limit.count(), c.max_model_len.count());
  }
}

}  // namespace

void check_workload(const WorkloadConfig& config) {
  check_lengths(config);
  check_arrivals(config);
  check_file(config);
  check_decodings(config);
  check_scenario(config);
}

}  // namespace kvstow
