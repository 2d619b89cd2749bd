// Turns the events of one run into the numbers of one result row.
//
// Serving metrics have the field's names and definitions (those of `vllm bench serve`):
//   TTFT   first token - arrival                       queue time   first scheduled - arrival
//   TPOT   (finish - first token) / (output - 1)       E2EL         finish - arrival
//   ITL    gap between two tokens of one sequence      normalised latency   E2EL / output length
//   goodput   finished requests per second that met every given SLO
// A request of n samples counts n times in the normalised latency (PagedAttention paper,
// section 6.1). Step averages are unweighted means over the iterations that begin inside the
// window, as in the paper's artifact.
#pragma once

#include <limits>
#include <vector>

#include "core/metrics/events.h"
#include "core/metrics/histogram.h"

namespace kvstow {

struct MetricsConfig {
  Seconds window_from = 0;
  Seconds window_to = std::numeric_limits<Seconds>::infinity();
  Seconds slo_ttft = std::numeric_limits<Seconds>::infinity();
  Seconds slo_tpot = std::numeric_limits<Seconds>::infinity();
};

struct Distribution {
  double mean = 0;
  double median = 0;
  double p90 = 0;
  double p99 = 0;
};

// Means of the window as shares of the tier.
struct LedgerShares {
  double live = 0;
  double reserved = 0;
  double internal = 0;
  double rounding = 0;
  double cached = 0;
  double in_transit = 0;
  double free = 0;
};

struct RunSummary {
  std::int64_t arrived = 0;
  std::int64_t finished = 0;
  std::int64_t rejected = 0;
  Seconds duration = 0;            // time of the last finish
  std::int64_t input_tokens = 0;   // of finished requests
  std::int64_t output_tokens = 0;  // of finished requests, all sequences

  Distribution normalized_latency_s_per_token;
  Distribution ttft_s;
  Distribution tpot_s;
  Distribution itl_s;
  Distribution e2el_s;
  Distribution queue_s;
  double request_throughput_per_s = 0;
  double output_throughput_tokens_per_s = 0;
  double goodput_per_s = 0;

  std::int64_t window_steps = 0;
  double batch_groups = 0;
  double batch_sequences = 0;
  double waiting_groups = 0;
  LedgerShares memory;
  double sharing_saving = 0;  // 1 - 1 / mean(slots mapped / slots held), Fig. 15's definition
  double head_fragmented_share = 0;  // of the window's steps

  std::int64_t preemptions = 0;
  std::int64_t recomputed_tokens = 0;
  std::int64_t swapped_tokens = 0;  // out and in
  std::int64_t copied_tokens = 0;   // device to device
  std::int64_t steps = 0;
  std::int64_t sequence_steps = 0;  // sum over steps of running sequences
  std::uint64_t token_hash = 0;     // of all requests, in order of their ids; 0 without real tokens
};

class RunMetrics final : public MetricsSink {
 public:
  explicit RunMetrics(const MetricsConfig& config) : config_(config) {}

  void on_step(const StepEvent&) override;
  void on_request(const RequestEvent& event) override { requests_.push_back(event); }
  void on_token_gaps(Seconds gap, std::int64_t count) override { gaps_.add(gap, count); }

  [[nodiscard]] RunSummary summarize() const;
  // In order of completion.
  [[nodiscard]] const std::vector<RequestEvent>& requests() const { return requests_; }

 private:
  void summarize_requests(RunSummary&) const;
  void summarize_window(RunSummary&) const;

  MetricsConfig config_;
  std::vector<RequestEvent> requests_;
  DurationHistogram gaps_;

  std::int64_t steps_ = 0;
  std::int64_t sequence_steps_ = 0;
  std::int64_t preemptions_ = 0;
  Tokens recomputed_{0};
  Tokens swapped_{0};
  Tokens copied_{0};

  // Sums over the window.
  std::int64_t window_steps_ = 0;
  std::int64_t groups_ = 0;
  std::int64_t sequences_ = 0;
  std::int64_t waiting_ = 0;
  std::int64_t head_fragmented_ = 0;
  LedgerRow memory_;
  std::int64_t sharing_steps_ = 0;  // steps with anything held
  double sharing_ = 0;              // mapped / held
};

}  // namespace kvstow
