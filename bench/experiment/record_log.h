// Every request and every step of one run as CSV text, on their way to the metrics.
#pragma once

#include <fmt/format.h>

#include <iterator>
#include <string>
#include <utility>

#include "core/metrics/events.h"

namespace kvstow {

struct Records {
  std::string requests;  // in order of completion; times in seconds on the run's clock
  std::string steps;     // the ledger's classes in slots
};

class RecordLog final : public MetricsSink {
 public:
  explicit RecordLog(MetricsSink& next) : next_(next) {  // `next` outlives this
    records_.requests =
        "request,arrival_s,first_scheduled_s,first_token_s,finish_s,prompt_tokens,output_tokens,"
        "sequences,preemptions,recomputed_tokens,rejected\n";
    records_.steps =
        "step,begin_s,elapsed_s,groups,sequences,prompt_tokens,decode_tokens,kv_read_tokens,"
        "waiting_groups,swapped_groups,preemptions,head_fragmented,swapped_out_tokens,"
        "swapped_in_tokens,copied_tokens,live,reserved,internal,rounding,cached,in_transit,free,"
        "logical\n";
  }

  void on_step(const StepEvent& e) override {
    const StepTotals& t = *e.totals;
    const LedgerRow& d = e.device;
    fmt::format_to(std::back_inserter(records_.steps),
                   "{},{:.6f},{:.6f},{},{},{},{},{},{},{},{},{},{},{},{},{},{},{},{},{},{},{},{}\n",
                   e.index, e.begin, e.elapsed, t.groups, t.sequences, t.prompt_tokens.count(),
                   t.decode_tokens.count(), t.kv_read.count(), e.waiting_groups, e.swapped_groups,
                   e.preemptions, e.head_fragmented ? 1 : 0, e.swapped_out.count(),
                   e.swapped_in.count(), e.copied.count(), d.live.count(), d.reserved.count(),
                   d.internal.count(), d.rounding.count(), d.cached.count(), d.in_transit.count(),
                   d.free.count(), e.logical.count());
    next_.on_step(e);
  }
  void on_request(const RequestEvent& e) override {
    fmt::format_to(std::back_inserter(records_.requests),
                   "{},{:.6f},{:.6f},{:.6f},{:.6f},{},{},{},{},{},{}\n", e.id.index(), e.arrival,
                   e.first_scheduled, e.first_token, e.finish, e.prompt.count(), e.output.count(),
                   e.sequences, e.preemptions, e.recomputed.count(), e.rejected ? 1 : 0);
    next_.on_request(e);
  }
  void on_token_gaps(Seconds gap, std::int64_t count) override { next_.on_token_gaps(gap, count); }

  [[nodiscard]] Records take() { return std::move(records_); }

 private:
  MetricsSink& next_;
  Records records_;
};

}  // namespace kvstow
