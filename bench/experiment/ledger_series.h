// Samples the waste ledger over time, on its way to the metrics.
#pragma once

#include <utility>
#include <vector>

#include "core/metrics/events.h"

namespace kvstow {

struct LedgerSample {
  Seconds time = 0;
  LedgerRow device;
};

// Forwards every event; keeps the ledger of the first step, and then of each that begins an
// interval or more after the last one kept.
class LedgerSeries final : public MetricsSink {
 public:
  // `next` outlives this; interval > 0.
  LedgerSeries(MetricsSink& next, Seconds interval) : next_(next), interval_(interval) {}

  void on_step(const StepEvent& event) override {
    if (event.begin >= due_) {
      samples_.push_back({event.begin, event.device});
      due_ = event.begin + interval_;
    }
    next_.on_step(event);
  }
  void on_request(const RequestEvent& event) override { next_.on_request(event); }
  void on_token_gaps(Seconds gap, std::int64_t count) override { next_.on_token_gaps(gap, count); }

  [[nodiscard]] std::vector<LedgerSample> take() { return std::move(samples_); }

 private:
  MetricsSink& next_;
  Seconds interval_;
  Seconds due_ = 0;
  std::vector<LedgerSample> samples_;
};

}  // namespace kvstow
