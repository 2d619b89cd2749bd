#include "bench/experiment/cuda_point.h"

#include <fmt/format.h>

#include <algorithm>

#include "bench/experiment/real_model.h"
#include "bench/registry/allocators.h"
#include "core/exec/cuda/cuda_executor.h"
#include "kernels/cuda/cuda_check.h"

namespace kvstow {
namespace {

std::shared_ptr<CudaTransformer> model_of(const ResolvedPoint& point) {
  static std::string loaded;
  static std::shared_ptr<CudaTransformer> model;
  const ModelConfig& config = point.model;
  const std::string name = fmt::format("{}/{}/{}", config.name, config.dtype, point.deterministic);
  if (loaded == name) return model;
  model.reset();  // there may not be room for two
  loaded.clear();
  model = std::make_shared<CudaTransformer>(
      transformer_of(config), config.dtype == "bf16" ? kernels::DType::bf16 : kernels::DType::f16,
      *weights_of(config), point.deterministic ? LinearMode::deterministic : LinearMode::fastest);
  loaded = name;
  return model;
}

// Block tables or extents? A view tells; so another allocator of the same kind is asked for one.
int table_block_tokens(const std::string& allocator, const PoolConfig& pool) {
  const auto sample = make_allocator(allocator, pool);
  const SeqId seq(0);
  MemPlan plan;
  const AdmitRequest one{
      .group = std::span(&seq, 1), .prompt = Tokens(1), .expected_total = Tokens(1)};
  if (sample->admit(one, plan).status != AllocStatus::ok)
    return 0;  // a pool without a single block
  return static_cast<int>(sample->view(seq).block_tokens.count());
}

// The scheduler's cap counts running groups (the artifact's rule), and lets one in where its own
// sequences and the groups already there do not exceed it. Each group holds a slot or more.
int most_sequences(std::int64_t cap, int widest, Tokens slots) {
  std::int64_t sum = 0;
  for (std::int64_t groups = 0; groups < std::min(cap, slots.count()); ++groups) {
    sum += std::min<std::int64_t>(widest, cap - groups);
  }
  return static_cast<int>(sum);
}

// Below, capturing costs more than it saves: a request served alone, as verify's reference is.
constexpr int kFewSequences = 4;
// Above, a step is long enough to be launched kernel by kernel.
constexpr int kMaxGraphRows = 256;

Seconds quantile(std::vector<Seconds> values, double q) {
  if (values.empty()) return 0;
  const auto at = static_cast<std::ptrdiff_t>(q * static_cast<double>(values.size() - 1));
  std::nth_element(values.begin(), values.begin() + at, values.end());
  return values[static_cast<std::size_t>(at)];
}

}  // namespace

DeviceNeeds device_needs(const std::string& allocator, const PoolConfig& pool,
                         const std::variant<IterationConfig, StaticBatchConfig>& scheduler,
                         int widest) {
  DeviceNeeds needs{.block_tokens = table_block_tokens(allocator, pool)};
  if (const auto* batch = std::get_if<StaticBatchConfig>(&scheduler)) {
    needs.max_sequences = static_cast<int>(batch->batch_size) * widest;
    // Members share nothing: every row has a slot of its own.
    needs.max_step_rows = static_cast<int>(
        std::min(pool.max_sequence * needs.max_sequences, pool.device_slots).count());
  } else {
    const auto& config = std::get<IterationConfig>(scheduler);
    needs.max_sequences = most_sequences(config.max_sequences, widest, pool.device_slots);
    needs.max_step_rows = static_cast<int>(config.max_batched_tokens.count()) + needs.max_sequences;
  }
  return needs;
}

std::unique_ptr<ComputingExecutor> make_cuda_executor(const ResolvedPoint& point,
                                                      const KvAllocator& allocator,
                                                      const DeviceNeeds& needs,
                                                      HostProfile* profile) {
  const bool few = needs.max_sequences <= kFewSequences;
  return std::make_unique<CudaExecutor>(
      model_of(point), allocator,
      CudaExecutorConfig{.seed = point.seed,
                         .sampling = point.sampling,
                         .block_tokens = needs.block_tokens,
                         .max_step_rows = needs.max_step_rows,
                         .max_sequences = needs.max_sequences,
                         .max_graph_rows = few || !point.graphs ? 0 : kMaxGraphRows,
                         .half_batches = point.half_batches,
                         .poison = needs.poison,
                         .teacher = needs.teacher,
                         .profile_from = point.profile_from,
                         .profile_to = point.profile_to,
                         .profile = profile,
                         .mark_launches = needs.mark_launches});
}

std::string cuda_device() {
  cudaDeviceProp properties{};
  int driver = 0;
  KVSTOW_CUDA(cudaGetDeviceProperties(&properties, 0));
  KVSTOW_CUDA(cudaDriverGetVersion(&driver));
  return fmt::format("{}, CUDA driver {}, toolkit {}", properties.name, driver, CUDART_VERSION);
}

std::vector<DeviceStep> device_steps(Executor& executor) {
  auto* cuda = dynamic_cast<CudaExecutor*>(&executor);
  if (cuda == nullptr) return {};
  std::vector<DeviceStep> steps;
  const auto& launches = cuda->launch_times();
  const auto& timings = cuda->timings();
  for (std::size_t i = 0; i < timings.size(); ++i) {
    const StepTiming& timing = timings[i];
    steps.push_back({.graph = timing.graph,
                     .idle = timing.idle,
                     .device = timing.device,
                     .launches = i < launches.size() ? launches[i] : LaunchTimes{}});
  }
  return steps;
}

std::optional<DeviceTimes> device_times(Executor& executor) {
  auto* cuda = dynamic_cast<CudaExecutor*>(&executor);
  if (cuda == nullptr) return std::nullopt;
  DeviceTimes times;
  std::vector<Seconds> host;
  std::vector<Seconds> idle;
  bool after_graph = false;
  for (const StepTiming& step : cuda->timings()) {
    ++times.steps;
    times.graphs += step.graph;
    times.halves += step.halves;
    times.busy += step.device;
    times.idle += step.idle;
    if (step.graph && after_graph) {
      host.push_back(step.host);
      idle.push_back(step.idle);
    }
    after_graph = step.graph;
  }
  times.host_median = quantile(host, 0.5);
  times.host_p99 = quantile(host, 0.99);
  times.idle_median = quantile(idle, 0.5);
  times.idle_p99 = quantile(idle, 0.99);
  return times;
}

}  // namespace kvstow
