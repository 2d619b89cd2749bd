// Executor cuda for a point, where the build has it.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "baselines/static_batch_scheduler.h"
#include "bench/experiment/attribution.h"
#include "bench/experiment/point.h"
#include "core/engine/iteration_scheduler.h"
#include "core/exec/rows/computing_executor.h"
#include "core/kv/kv_allocator.h"
#include "core/metrics/host_profile.h"

namespace kvstow {

// What builds without a toolkit say instead.
inline constexpr const char* kNoCuda =
    "this build has no executor cuda: configure with a CUDA toolkit (preset cuda)";

// What a run on a GPU says about its steps. Seconds.
struct DeviceTimes {
  Seconds host_median = 0;  // from tokens visible to the next launch; steps of decodes only
  Seconds host_p99 = 0;
  Seconds idle_median = 0;  // of the device between two such steps
  Seconds idle_p99 = 0;
  Seconds busy = 0;  // of the device, all steps
  Seconds idle = 0;  // of the device between steps, all of them
  std::int64_t steps = 0;
  std::int64_t graphs = 0;  // steps that ran as a graph
  std::int64_t halves = 0;  // of those, in two half batches
};

// What its buffers are sized for.
struct DeviceNeeds {
  int block_tokens = 0;  // of block tables; 0: extents
  int max_step_rows = 0;
  int max_sequences = 0;
  bool poison = false;
  bool mark_launches = false;  // see attribution.h
  Teacher* teacher = nullptr;  // outlives the executor
};

// For a system on this pool whose requests have up to `widest` sequences.
[[nodiscard]] DeviceNeeds device_needs(
    const std::string& allocator, const PoolConfig&,
    const std::variant<IterationConfig, StaticBatchConfig>& scheduler, int widest);

// The point says model, sampling and seed. REQUIRES: check_computable() passed. The model stays
// loaded until a point needs another one. Throws InputError where the build has no CUDA, or the
// machine no device or too little memory on it.
[[nodiscard]] std::unique_ptr<ComputingExecutor> make_cuda_executor(const ResolvedPoint&,
                                                                    const KvAllocator&,
                                                                    const DeviceNeeds&,
                                                                    HostProfile* = nullptr);

// The device that executor cuda computes on, with its driver and toolkit.
[[nodiscard]] std::string cuda_device();

// Of a CudaExecutor; none of any other.
[[nodiscard]] std::vector<DeviceStep> device_steps(Executor&);
[[nodiscard]] std::optional<DeviceTimes> device_times(Executor&);

}  // namespace kvstow
