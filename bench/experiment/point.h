// One point of an experiment, with every choice made: what run_point() runs and a row records.
#pragma once

#include <cstdint>
#include <map>
#include <string>

#include "bench/experiment/system.h"
#include "core/config/model_config.h"
#include "core/exec/half_batches.h"
#include "core/exec/rows/sampling.h"
#include "core/exec/step_law.h"
#include "core/types.h"
#include "workloads/workload.h"

namespace kvstow {

// Where a point stands in its experiment; names for people and figures, without effect on the run.
struct PointLabels {
  std::string experiment;
  std::string figure;
  std::string panel;
  std::string dataset;                       // the workload's label
  std::map<std::string, std::string> extra;  // of the experiment's own choosing
  bool refined = false;                      // added by a search between swept rates
  double capacity_share = 0;  // > 0: the rate is this share of the system's measured capacity
};

enum class PointKind : std::uint8_t {
  serve,  // a workload through the engine
  swap,   // one sequence swapped out and back, or recomputed: the cost of preemption alone
};
inline constexpr std::string_view kPointKindNames[] = {"serve", "swap"};

struct ResolvedPoint {
  PointKind kind = PointKind::serve;
  PointLabels labels;

  ModelConfig model;
  std::string device;
  int tensor_parallel = 1;
  std::string executor = "simulated";
  std::string law = "max";
  StepLaw step_law;  // the law's constants for this model and server
  Bytes pool{0};     // floored to whole blocks by the allocator
  Bytes host_pool{0};

  SystemConfig system;
  std::int64_t batch_size = 0;  // static-batch: B of this model and dataset

  WorkloadConfig workload;
  SamplingConfig sampling;     // executors with real logits
  int executor_threads = 1;    // executor cpu
  bool deterministic = false;  // executor cuda: a row's bits depend on its sequence alone
  bool graphs = true;          // executor cuda: steps of decodes are graph launches
  HalfBatches half_batches = HalfBatches::when_faster;  // executor cuda: of those
  std::int64_t profile_from =
      0;                        // executor cuda: steps [from, to) are shown to a profiler, and the
  std::int64_t profile_to = 0;  // host's stages as ranges
  bool attribution = false;     // executor cuda: a second run says where the steps' time goes
  double beam_death_probability = 0.08;  // beam search without logits: each beam dies at a step

  Seconds window_from_s = 0;  // step averages are taken over [from, to)
  Seconds window_to_s = 0;
  Seconds stop_s = 0;          // > 0: the run is cut then, with requests still waiting
  bool records = false;        // also keep every request and every step as CSV
  Seconds series_every_s = 0;  // > 0: the row also keeps the waste ledger over time
  Seconds slo_ttft_s = 0;      // goodput counts requests within both; 0: no such limit
  Seconds slo_tpot_s = 0;
  std::uint64_t seed = 1;

  [[nodiscard]] Tokens pool_slots() const { return Tokens(pool / model.kv_bytes_per_token()); }
  [[nodiscard]] Tokens host_slots() const { return Tokens(host_pool / model.kv_bytes_per_token()); }
};

}  // namespace kvstow
