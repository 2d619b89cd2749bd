// From a resolved point to its measurements: the one place where the parts of a system are joined.
#pragma once

#include <memory>
#include <optional>
#include <variant>

#include "baselines/static_batch_scheduler.h"
#include "bench/experiment/cuda_point.h"
#include "bench/experiment/ledger_series.h"
#include "bench/experiment/point.h"
#include "bench/experiment/record_log.h"
#include "core/engine/iteration_scheduler.h"
#include "core/kv/kv_allocator.h"
#include "core/metrics/run_metrics.h"

namespace kvstow {

// What preempting one sequence costs (PointKind::swap).
struct SwapCost {
  Seconds swap_in = 0;
  Seconds swap_in_out = 0;
  Seconds recompute = 0;  // one whole step with the sequence as its only prompt
};

struct RunResult {
  RunSummary summary;                      // PointKind::serve
  SwapCost swap;                           // PointKind::swap
  std::vector<LedgerSample> series;        // where the point asks for one
  Records records;                         // likewise
  std::optional<DeviceTimes> device;       // executor cuda
  std::optional<Attribution> attribution;  // where the point asks for one
  WorkloadReport trace;
  // Of the loop, workload generation included. `cpu_s` is this thread's own time, which a busy
  // machine does not stretch.
  double wall_s = 0;
  double cpu_s = 0;
};

// The pool of a point: bytes floored to whole slots, slots to whole blocks.
[[nodiscard]] PoolConfig pool_config(const ResolvedPoint& point);

// Slots that an admission leaves free: floor(share * blocks) blocks.
[[nodiscard]] Tokens watermark(const ResolvedPoint& point);

[[nodiscard]] LengthEstimate length_estimate(EstimateKind kind);

// The scheduler a point's system asks for.
[[nodiscard]] std::variant<IterationConfig, StaticBatchConfig> scheduler_config(
    const ResolvedPoint& point);

// Deterministic apart from wall_s and cpu_s, and with executors that compute apart from everything
// that is measured in seconds: their steps take the time they take. Executor cuda runs on the wall
// clock, one point at a time. Throws InvariantError where an invariant breaks on the way.
[[nodiscard]] RunResult run_point(const ResolvedPoint& point);

}  // namespace kvstow
