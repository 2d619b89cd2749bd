#include "core/metrics/run_metrics.h"

#include <algorithm>

namespace kvstow {
namespace {

// Linear interpolation between order statistics, as numpy does. REQUIRES: not empty.
double quantile(const std::vector<double>& sorted, double q) {
  const double rank = q * static_cast<double>(sorted.size() - 1);
  const auto low = static_cast<std::size_t>(rank);
  const std::size_t high = std::min(low + 1, sorted.size() - 1);
  return sorted[low] + (rank - static_cast<double>(low)) * (sorted[high] - sorted[low]);
}

Distribution distribution(std::vector<double> values) {
  if (values.empty()) return {};
  double sum = 0;
  for (const double value : values) sum += value;
  std::sort(values.begin(), values.end());
  return {.mean = sum / static_cast<double>(values.size()),
          .median = quantile(values, 0.5),
          .p90 = quantile(values, 0.9),
          .p99 = quantile(values, 0.99)};
}

}  // namespace

void RunMetrics::on_step(const StepEvent& event) {
  ++steps_;
  sequence_steps_ += event.totals->sequences;
  preemptions_ += event.preemptions;
  recomputed_ += event.totals->recomputed;
  swapped_ += event.swapped_out + event.swapped_in;
  copied_ += event.copied;
  if (event.begin < config_.window_from || event.begin > config_.window_to) return;
  ++window_steps_;
  groups_ += event.totals->groups;
  sequences_ += event.totals->sequences;
  waiting_ += event.waiting_groups;
  head_fragmented_ += event.head_fragmented ? 1 : 0;
  const LedgerRow& row = event.device;
  memory_.live += row.live;
  memory_.reserved += row.reserved;
  memory_.internal += row.internal;
  memory_.rounding += row.rounding;
  memory_.cached += row.cached;
  memory_.in_transit += row.in_transit;
  memory_.free += row.free;
  const Tokens held = row.live + row.reserved + row.internal + row.rounding;
  if (held > Tokens(0)) {
    ++sharing_steps_;
    sharing_ += static_cast<double>(event.mapped.count()) / static_cast<double>(held.count());
  }
}

RunSummary RunMetrics::summarize() const {
  RunSummary out;
  summarize_requests(out);
  summarize_window(out);
  out.itl_s = {.mean = gaps_.mean(),
               .median = gaps_.quantile(0.5),
               .p90 = gaps_.quantile(0.9),
               .p99 = gaps_.quantile(0.99)};
  out.preemptions = preemptions_;
  out.recomputed_tokens = recomputed_.count();
  out.swapped_tokens = swapped_.count();
  out.copied_tokens = copied_.count();
  out.steps = steps_;
  out.sequence_steps = sequence_steps_;
  return out;
}

void RunMetrics::summarize_requests(RunSummary& out) const {
  std::vector<const RequestEvent*> by_id;
  by_id.reserve(requests_.size());
  for (const RequestEvent& event : requests_) by_id.push_back(&event);
  std::sort(by_id.begin(), by_id.end(),
            [](const RequestEvent* a, const RequestEvent* b) { return a->id < b->id; });

  std::vector<double> normalized, ttft, tpot, e2el, queue;
  std::int64_t good = 0;
  out.arrived = static_cast<std::int64_t>(by_id.size());
  for (const RequestEvent* event : by_id) {
    if (event->rejected) {
      ++out.rejected;
      continue;
    }
    ++out.finished;
    const auto output = static_cast<double>(event->output.count());
    const Seconds latency = event->finish - event->arrival;
    const Seconds first = event->first_token - event->arrival;
    const Seconds per_token =
        output > 1 ? (event->finish - event->first_token) / (output - 1) : 0.0;
    normalized.insert(normalized.end(), static_cast<std::size_t>(event->sequences),
                      latency / output);
    ttft.push_back(first);
    if (output > 1) tpot.push_back(per_token);
    e2el.push_back(latency);
    queue.push_back(event->first_scheduled - event->arrival);
    if (first <= config_.slo_ttft && per_token <= config_.slo_tpot) ++good;
    out.duration = std::max(out.duration, event->finish);
    out.input_tokens += event->prompt.count();
    out.output_tokens += event->output.count() * event->sequences;
    out.token_hash = out.token_hash * 0x100000001b3ULL ^ event->token_hash;
  }
  out.normalized_latency_s_per_token = distribution(std::move(normalized));
  out.ttft_s = distribution(std::move(ttft));
  out.tpot_s = distribution(std::move(tpot));
  out.e2el_s = distribution(std::move(e2el));
  out.queue_s = distribution(std::move(queue));
  if (out.duration > 0) {
    out.request_throughput_per_s = static_cast<double>(out.finished) / out.duration;
    out.output_throughput_tokens_per_s = static_cast<double>(out.output_tokens) / out.duration;
    out.goodput_per_s = static_cast<double>(good) / out.duration;
  }
}

void RunMetrics::summarize_window(RunSummary& out) const {
  out.window_steps = window_steps_;
  if (window_steps_ == 0) return;
  const auto steps = static_cast<double>(window_steps_);
  out.batch_groups = static_cast<double>(groups_) / steps;
  out.batch_sequences = static_cast<double>(sequences_) / steps;
  out.waiting_groups = static_cast<double>(waiting_) / steps;
  out.head_fragmented_share = static_cast<double>(head_fragmented_) / steps;
  const auto all = static_cast<double>(memory_.sum().count());
  const auto share = [all](Tokens part) { return static_cast<double>(part.count()) / all; };
  out.memory = {.live = share(memory_.live),
                .reserved = share(memory_.reserved),
                .internal = share(memory_.internal),
                .rounding = share(memory_.rounding),
                .cached = share(memory_.cached),
                .in_transit = share(memory_.in_transit),
                .free = share(memory_.free)};
  if (sharing_steps_ > 0) {
    out.sharing_saving = 1 - static_cast<double>(sharing_steps_) / sharing_;
  }
}

}  // namespace kvstow
