#include "workloads/workload.h"

#include <fmt/format.h>

#include <bit>
#include <limits>
#include <optional>
#include <utility>

#include "core/check.h"
#include "core/rng.h"
#include "workloads/arrivals.h"
#include "workloads/config_check.h"
#include "workloads/file_sources.h"
#include "workloads/length_laws.h"
#include "workloads/scenarios.h"
#include "workloads/trace_file.h"

namespace kvstow {
namespace {

std::uint64_t mixed(std::uint64_t hash, std::uint64_t word) {
  return mix64(hash * 0x100000001b3ULL + word);
}

std::uint64_t hash_request(std::uint64_t hash, const Request& request) {
  hash = mixed(hash, std::bit_cast<std::uint64_t>(request.arrival));
  hash = mixed(hash, std::uint64_t(request.prompt.count()) << 32 | request.output.count());
  hash = mixed(hash, std::uint64_t(request.decoding.kind) << 32 | request.decoding.width);
  hash = mixed(hash, std::uint64_t(request.prefix.index()) << 32 | request.prefix_tokens.count());
  hash = mixed(hash, request.session);
  for (const std::uint64_t block : request.block_hashes) hash = mixed(hash, block);
  return hash;
}

// Where the rows of a workload come from.
struct Sources {
  std::unique_ptr<LengthSource> lengths;
  std::unique_ptr<ArrivalSource> arrivals;  // null: the rows carry their own arrivals
};

// prompt + output of a drawn row may reach this; the shared prefix comes on top.
Tokens drawn_limit(const WorkloadConfig& config) {
  return config.max_model_len - prefix_of(config);
}

Sources make_sources(const WorkloadConfig& config, std::uint64_t seed) {
  const TraceNeeds needs{.arrivals = config.arrivals == ArrivalLaw::trace,
                         .lengths = config.lengths == LengthLaw::file};
  Sources sources;
  if (!needs.lengths) {
    sources.lengths = make_length_law(config, RandomStream(seed, "workload.lengths"));
  }
  if (!needs.arrivals) {
    sources.arrivals = make_arrival_law(config, RandomStream(seed, "workload.arrivals"));
  }
  if (!needs.arrivals && !needs.lengths) return sources;

  auto reader = open_trace(config, needs);
  // The chatbot cuts every request below the limit itself.
  const Tokens limit = config.scenario == Scenario::chatbot
                           ? Tokens(std::numeric_limits<Tokens::Rep>::max())
                           : drawn_limit(config);
  const TraceSurvey survey = survey_trace(*reader, config, needs, limit);
  if (config.file_rows > 0) reader = first_rows(std::move(reader), survey.rows);
  if (needs.arrivals) {
    const TimeMap times(survey, config.rate_per_s, config.file);
    if (needs.lengths) {
      sources.lengths = make_trace_rows(std::move(reader), times);
    } else {
      sources.arrivals = make_file_arrivals(std::move(reader), times);
    }
  } else {
    const bool repeat = config.duration_s > 0 || config.max_requests > 0;
    sources.lengths = make_file_lengths(std::move(reader), config.shuffle, repeat,
                                        RandomStream(seed, "workload.shuffle"));
  }
  return sources;
}

class ComposedWorkload final : public Workload {
 public:
  ComposedWorkload(const WorkloadConfig& config, std::uint64_t seed)
      : config_(config),
        sources_(make_sources(config, seed)),
        limit_(drawn_limit(config)),
        decodings_(config.decodings, RandomStream(seed, "workload.decoding")) {
    if (config.scenario == Scenario::chatbot) {
      chatbot_.emplace(config, RandomStream(seed, "workload.scenario"));
    }
  }

  std::optional<Request> next() override {
    if (ended_ || (config_.max_requests > 0 && report_.delivered == config_.max_requests)) {
      return end();
    }
    if (sources_.arrivals) {
      const std::optional<Seconds> arrival = sources_.arrivals->next();
      if (!arrival || is_late(*arrival)) return end();
      arrival_ = *arrival;
    }
    if (!draw_row()) return end();
    Request request;
    request.id = RequestId(static_cast<RequestId::Rep>(report_.delivered));
    request.arrival = arrival_;
    request.prompt = row_.prompt;
    request.output = row_.output;
    request.decoding = decodings_.draw();
    request.session = row_.session;
    if (config_.scenario == Scenario::shared_prefix) {
      request.prefix = PrefixId(0);
      request.prefix_tokens = config_.prefix_tokens;
      request.prompt += config_.prefix_tokens;
    } else {
      request.block_hashes = std::move(row_.block_hashes);
    }
    account(request);
    return request;
  }

  const WorkloadReport& report() const override { return report_; }

 private:
  enum class Fit : std::uint8_t { fits, clipped, dropped };

  std::nullopt_t end() {
    ended_ = true;
    return std::nullopt;
  }

  [[nodiscard]] bool is_late(Seconds arrival) const {
    return config_.duration_s > 0 && arrival >= config_.duration_s;
  }

  // The next row within the limit into row_; false at the end of the workload.
  bool draw_row() {
    // A law that (almost) never fits would otherwise search for ever.
    for (int attempt = 0; attempt < kMostDropsInARow; ++attempt) {
      if (!sources_.lengths->next(row_)) return false;
      if (!sources_.arrivals) {
        if (is_late(row_.arrival)) return false;
        arrival_ = row_.arrival;
      }
      ++report_.offered;
      const Fit fit = fit_row();
      if (fit == Fit::clipped) ++report_.clipped;
      if (fit != Fit::dropped) return true;
      ++report_.dropped;
    }
    throw InputError(fmt::format("workload.over_limit: drop: {} requests in a row exceed the limit",
                                 kMostDropsInARow));
  }

  Fit fit_row() {
    if (chatbot_) {
      chatbot_->apply(row_);
      return Fit::fits;
    }
    if (row_.prompt + row_.output <= limit_) return Fit::fits;
    switch (config_.over_limit) {
      case OverLimit::drop:
        return Fit::dropped;
      case OverLimit::clip:
        row_.prompt = min(row_.prompt, limit_ - Tokens(1));
        row_.output = min(row_.output, limit_ - row_.prompt);
        return Fit::clipped;
      case OverLimit::error:
        break;
    }
    throw InputError(fmt::format("workload.lengths: request {}: {}", report_.offered - 1,
                                 over_limit_message(row_, limit_)));
  }

  void account(const Request& request) {
    ++report_.delivered;
    report_.prompt_tokens += request.prompt.count();
    report_.output_tokens += request.output.count();
    report_.last_arrival = request.arrival;
    report_.content_hash = hash_request(report_.content_hash, request);
  }

  static constexpr int kMostDropsInARow = 1'000'000;

  WorkloadConfig config_;
  Sources sources_;
  Tokens limit_;  // of a drawn row: prompt + output without the shared prefix
  DecodingMix decodings_;
  std::optional<Chatbot> chatbot_;
  TraceRow row_;
  Seconds arrival_ = 0;
  WorkloadReport report_;
  bool ended_ = false;
};

}  // namespace

std::unique_ptr<Workload> make_workload(const WorkloadConfig& config, std::uint64_t seed) {
  check_workload(config);
  return std::make_unique<ComposedWorkload>(config, seed);
}

WorkloadReport scan_workload(const WorkloadConfig& config, std::uint64_t seed) {
  const auto workload = make_workload(config, seed);
  while (workload->next()) {
  }
  return workload->report();
}

}  // namespace kvstow
