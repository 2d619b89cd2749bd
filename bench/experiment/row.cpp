#include "bench/experiment/row.h"

#include <fmt/chrono.h>
#include <fmt/format.h>

#include <chrono>
#include <limits>
#include <nlohmann/json.hpp>

#include "bench/experiment/build_info.h"
#include "bench/experiment/point_json.h"

namespace kvstow {
namespace {

using nlohmann::json;

constexpr int kSchema = 1;
constexpr double kMilli = 1e3;

// null where nothing finished: there is no latency, which is not a latency of 0.
json distribution_json(const RunSummary& summary, const Distribution& d) {
  if (summary.finished == 0) return nullptr;
  return {{"mean", d.mean}, {"median", d.median}, {"p90", d.p90}, {"p99", d.p99}};
}

json serve_metrics(const RunSummary& s) {
  const LedgerShares& m = s.memory;
  return {
      {"requests", {{"arrived", s.arrived}, {"finished", s.finished}, {"rejected", s.rejected}}},
      {"duration_s", s.duration},
      {"normalized_latency_s_per_token", distribution_json(s, s.normalized_latency_s_per_token)},
      {"ttft_s", distribution_json(s, s.ttft_s)},
      {"tpot_s", distribution_json(s, s.tpot_s)},
      {"itl_s", distribution_json(s, s.itl_s)},
      {"e2el_s", distribution_json(s, s.e2el_s)},
      {"queue_s", distribution_json(s, s.queue_s)},
      {"request_throughput_per_s", s.request_throughput_per_s},
      {"output_throughput_tokens_per_s", s.output_throughput_tokens_per_s},
      {"goodput_per_s", s.goodput_per_s},
      {"window_steps", s.window_steps},
      {"batch_groups", s.batch_groups},
      {"batch_sequences", s.batch_sequences},
      {"waiting_groups", s.waiting_groups},
      {"memory",
       {{"live", m.live},
        {"reserved", m.reserved},
        {"internal", m.internal},
        {"rounding", m.rounding},
        {"cached", m.cached},
        {"in_transit", m.in_transit},
        {"free", m.free}}},
      {"sharing_saving", s.sharing_saving},
      {"head_fragmented_share", s.head_fragmented_share},
      {"preemptions", s.preemptions},
      {"recomputed_tokens", s.recomputed_tokens},
      {"swapped_tokens", s.swapped_tokens},
      {"copied_tokens", s.copied_tokens},
      {"steps", s.steps},
      {"sequence_steps", s.sequence_steps}};
}

json swap_metrics(const SwapCost& cost) {
  return {{"swap_in_ms", cost.swap_in * kMilli},
          {"swap_in_out_ms", cost.swap_in_out * kMilli},
          {"recompute_ms", cost.recompute * kMilli}};
}

// Shares of the pool, one list for each class.
json series_json(const std::vector<LedgerSample>& samples) {
  json series;
  for (const LedgerSample& sample : samples) {
    const LedgerRow& row = sample.device;
    const auto capacity = static_cast<double>(row.sum().count());
    const auto add = [&](const char* name, Tokens tokens) {
      series[name].push_back(static_cast<double>(tokens.count()) / capacity);
    };
    series["time_s"].push_back(sample.time);
    add("live", row.live);
    add("reserved", row.reserved);
    add("internal", row.internal);
    add("rounding", row.rounding);
    add("cached", row.cached);
    add("in_transit", row.in_transit);
    add("free", row.free);
  }
  return series;
}

std::string utc_now() {
  const std::time_t now = std::chrono::system_clock::to_time_t(std::chrono::system_clock::now());
  return fmt::format("{:%Y-%m-%dT%H:%M:%SZ}", fmt::gmtime(now));
}

// RFC 4180: names of the user's may hold anything.
std::string csv_cell(const std::string& text) {
  if (text.find_first_of(",\"\r\n") == std::string::npos) return text;
  std::string quoted = "\"";
  for (const char c : text) {
    if (c == '"') quoted += c;
    quoted += c;
  }
  return quoted + '"';
}

// Columns of runs.csv: a name and where the value stands in a row.
struct Column {
  const char* name;
  const char* pointer;
};
constexpr Column kColumns[] = {
    {"key", "/key"},
    {"experiment", "/experiment"},
    {"figure", "/point/figure"},
    {"panel", "/point/panel"},
    {"model", "/point/model"},
    {"dataset", "/point/dataset"},
    {"system", "/point/system"},
    {"law", "/point/law"},
    {"decoding", "/point/decoding"},
    {"width", "/point/width"},
    {"block_tokens", "/point/block_tokens"},
    {"preemption", "/point/preemption"},
    {"request_rate_per_s", "/point/request_rate_per_s"},
    {"seed", "/point/seed"},
    {"requests", "/trace/requests"},
    {"dropped_share", "/trace/dropped_share"},
    {"finished", "/metrics/requests/finished"},
    {"rejected", "/metrics/requests/rejected"},
    {"normalized_latency_mean_s_per_token", "/metrics/normalized_latency_s_per_token/mean"},
    {"normalized_latency_median_s_per_token", "/metrics/normalized_latency_s_per_token/median"},
    {"normalized_latency_p99_s_per_token", "/metrics/normalized_latency_s_per_token/p99"},
    {"ttft_mean_s", "/metrics/ttft_s/mean"},
    {"ttft_p99_s", "/metrics/ttft_s/p99"},
    {"tpot_mean_s", "/metrics/tpot_s/mean"},
    {"itl_p99_s", "/metrics/itl_s/p99"},
    {"e2el_mean_s", "/metrics/e2el_s/mean"},
    {"queue_mean_s", "/metrics/queue_s/mean"},
    {"request_throughput_per_s", "/metrics/request_throughput_per_s"},
    {"output_throughput_tokens_per_s", "/metrics/output_throughput_tokens_per_s"},
    {"goodput_per_s", "/metrics/goodput_per_s"},
    {"batch_groups", "/metrics/batch_groups"},
    {"batch_sequences", "/metrics/batch_sequences"},
    {"live", "/metrics/memory/live"},
    {"reserved", "/metrics/memory/reserved"},
    {"internal", "/metrics/memory/internal"},
    {"rounding", "/metrics/memory/rounding"},
    {"free", "/metrics/memory/free"},
    {"sharing_saving", "/metrics/sharing_saving"},
    {"preemptions", "/metrics/preemptions"},
    {"recomputed_tokens", "/metrics/recomputed_tokens"},
    {"swapped_tokens", "/metrics/swapped_tokens"},
    {"sequence_steps", "/metrics/sequence_steps"},
    {"wall_s", "/timing/wall_s"},
    {"sequence_steps_per_s", "/timing/sequence_steps_per_s"},
};

}  // namespace

json row_json(const ResolvedPoint& point, const std::string& key, const RunResult& result) {
  const BuildInfo& build = build_info();
  const bool serve = point.kind == PointKind::serve;
  const double cpu = std::max(result.cpu_s, 1e-9);
  json row = {{"schema", kSchema},
              {"key", key},
              {"experiment", point.labels.experiment},
              {"point", labels_json(point)},
              {"config", config_json(point)},
              {"build",
               {{"version", build.version},
                {"commit", build.commit},
                {"sources", build.sources},
                {"type", build.type},
                {"compiler", build.compiler}}},
              {"trace",
               {{"hash", fmt::format("{:016x}", result.trace.content_hash)},
                {"requests", result.trace.delivered},
                {"dropped_share", result.trace.over_limit_share()},
                {"mean_prompt_tokens", result.trace.mean_prompt()},
                {"mean_output_tokens", result.trace.mean_output()}}},
              {"metrics", serve ? serve_metrics(result.summary) : swap_metrics(result.swap)},
              {"timing",
               {{"wall_s", result.wall_s},
                {"cpu_s", result.cpu_s},
                {"sequence_steps_per_s", static_cast<double>(result.summary.sequence_steps) / cpu},
                {"date", utc_now()}}}};
  if (const auto& d = result.device) {
    row["device_times"] = {{"host_median_s", d->host_median},
                           {"host_p99_s", d->host_p99},
                           {"idle_median_s", d->idle_median},
                           {"idle_p99_s", d->idle_p99},
                           {"busy_s", d->busy},
                           {"idle_s", d->idle},
                           {"steps", d->steps},
                           {"graph_steps", d->graphs},
                           {"half_batch_steps", d->halves}};
  }
  if (result.attribution) row["attribution"] = attribution_json(*result.attribution);
  if (!result.series.empty()) row["series"] = series_json(result.series);
  return row;
}

json serve_json(const ResolvedPoint& point, const RunResult& result) {
  const RunSummary& s = result.summary;
  const double duration = std::max(s.duration, 1e-9);
  json out = {
      {"backend", "kvstow-" + point.system.name},
      {"model_id", point.model.name},
      {"num_prompts", s.arrived},
      {"request_rate", point.workload.rate_per_s},
      {"burstiness", point.workload.burstiness},
      {"duration", s.duration},
      {"completed", s.finished},
      {"failed", s.rejected},
      {"total_input_tokens", s.input_tokens},
      {"total_output_tokens", s.output_tokens},
      {"request_throughput", s.request_throughput_per_s},
      {"request_goodput", s.goodput_per_s},
      {"output_throughput", s.output_throughput_tokens_per_s},
      {"total_token_throughput", static_cast<double>(s.input_tokens + s.output_tokens) / duration}};
  const auto add = [&](const std::string& name, const Distribution& d) {
    out["mean_" + name + "_ms"] = d.mean * kMilli;
    out["median_" + name + "_ms"] = d.median * kMilli;
    out["p90_" + name + "_ms"] = d.p90 * kMilli;
    out["p99_" + name + "_ms"] = d.p99 * kMilli;
  };
  add("ttft", s.ttft_s);
  add("tpot", s.tpot_s);
  add("itl", s.itl_s);
  add("e2el", s.e2el_s);
  return out;
}

std::string csv_header() {
  std::string line;
  for (const Column& column : kColumns) {
    if (!line.empty()) line += ',';
    line += column.name;
  }
  return line;
}

std::string csv_line(const json& row) {
  std::string line;
  for (const Column& column : kColumns) {
    if (&column != kColumns) line += ',';
    const json::json_pointer pointer(column.pointer);
    if (!row.contains(pointer)) continue;
    const json& value = row.at(pointer);
    if (value.is_null()) continue;
    line += value.is_string() ? csv_cell(value.get<std::string>()) : value.dump();
  }
  return line;
}

double latency_of(const json& row) {
  const json& metrics = row.at("metrics");
  if (!metrics.contains("requests") || metrics.at("requests").at("finished") == 0) {
    return std::numeric_limits<double>::infinity();
  }
  return metrics.at("normalized_latency_s_per_token").at("mean").get<double>();
}

}  // namespace kvstow
