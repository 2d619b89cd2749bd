#include "bench/experiment/run_point.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <ctime>
#include <mutex>
#include <optional>
#include <vector>

#include "baselines/length_estimates.h"
#include "baselines/static_batch_scheduler.h"
#include "bench/experiment/real_model.h"
#include "bench/registry/allocators.h"
#include "core/engine/engine.h"
#include "core/exec/cpu/cpu_executor.h"
#include "core/exec/simulated_executor.h"
#include "core/kv/profiled_allocator.h"

namespace kvstow {
namespace {

std::unique_ptr<Scheduler> make_scheduler(const ResolvedPoint& point, KvAllocator& allocator,
                                          SeqIds& seq_ids) {
  const auto config = scheduler_config(point);
  if (const auto* batches = std::get_if<StaticBatchConfig>(&config)) {
    return std::make_unique<StaticBatchScheduler>(*batches, allocator);
  }
  return std::make_unique<IterationScheduler>(std::get<IterationConfig>(config), allocator,
                                              seq_ids);
}

MetricsConfig metrics_config(const ResolvedPoint& point) {
  MetricsConfig config;
  config.window_from = point.window_from_s;
  if (point.window_to_s > 0) config.window_to = point.window_to_s;
  if (point.slo_ttft_s > 0) config.slo_ttft = point.slo_ttft_s;
  if (point.slo_tpot_s > 0) config.slo_tpot = point.slo_tpot_s;
  return config;
}

std::unique_ptr<BeamModel> beam_model(const ResolvedPoint& point) {
  const auto is_beam = [](const DecodingShare& s) { return s.decoding.kind == DecodingKind::beam; };
  const auto& decodings = point.workload.decodings;
  if (std::none_of(decodings.begin(), decodings.end(), is_beam)) return nullptr;
  return make_death_and_refork(point.beam_death_probability, point.seed);
}

// Where the time of a run on a GPU went, step by step.
struct StepTimes {
  std::vector<DeviceStep> device;
  std::vector<HostStep> host;
};

std::unique_ptr<Executor> make_executor(const ResolvedPoint& point, const KvAllocator& allocator,
                                        HostProfile* profile, bool mark_launches) {
  if (point.executor == "simulated") {
    return std::make_unique<SimulatedExecutor>(point.step_law, beam_model(point));
  }
  if (point.executor == "cuda") {
    DeviceNeeds needs = device_needs(point.system.allocator, pool_config(point),
                                     scheduler_config(point), point.workload.widest());
    needs.mark_launches = mark_launches;
    return make_cuda_executor(point, allocator, needs, profile);
  }
  return std::make_unique<CpuExecutor>(
      cpu_model(point), allocator,
      CpuExecutorConfig{
          .seed = point.seed, .sampling = point.sampling, .threads = point.executor_threads});
}

StepTimes serve(const ResolvedPoint& point, RunResult& result, bool mark_launches = false) {
  const auto workload = make_workload(point.workload, point.seed);
  std::unique_ptr<KvAllocator> allocator =
      make_allocator(point.system.allocator, pool_config(point));
  std::optional<HostProfile> profile;
  if (point.profile_to > 0 || point.attribution) {
    allocator = std::make_unique<ProfiledAllocator>(std::move(allocator), profile.emplace());
  }
  HostProfile* const stages = profile ? &*profile : nullptr;
  SeqIds seq_ids;
  const auto scheduler = make_scheduler(point, *allocator, seq_ids);
  const std::unique_ptr<Executor> executor =
      make_executor(point, *allocator, stages, mark_launches);
  SimulatedClock simulated;
  std::optional<WallClock> wall;
  Clock& clock = point.executor == "cuda" ? wall.emplace() : static_cast<Clock&>(simulated);
  RunMetrics metrics(metrics_config(point));
  MetricsSink* sink = &metrics;
  std::optional<LedgerSeries> series;
  if (point.series_every_s > 0) sink = &series.emplace(*sink, point.series_every_s);
  std::optional<RecordLog> log;
  if (point.records) sink = &log.emplace(*sink);
  EngineParts parts{*workload, *scheduler, *allocator, *executor, clock, *sink, seq_ids};
  if (point.stop_s > 0) parts.stop_at = point.stop_s;
  parts.profile = stages;
  Engine(parts).run();
  if (series) result.series = series->take();
  if (log) result.records = log->take();
  result.summary = metrics.summarize();
  result.device = device_times(*executor);
  result.trace = workload->report();
  if (!profile) return {};
  return {.device = device_steps(*executor), .host = profile->take()};
}

Seconds median(std::vector<Seconds> values) {
  const auto middle = values.begin() + std::ssize(values) / 2;
  std::nth_element(values.begin(), middle, values.end());
  return *middle;
}

// By the clock on the wall, from the decision to the end of it: medians over turns.
SwapCost measured_swap(const ResolvedPoint& point, KvAllocator& allocator, Request request,
                       const std::vector<SeqId>& group, MemPlan& admitted) {
  const auto executor = make_executor(point, allocator, nullptr, false);
  WallClock clock;
  const auto run = [&](const Step& step) {
    executor->submit(step);
    executor->wait();
  };
  const auto swap = [&](auto direction) {
    Step step;
    KVSTOW_CHECK(direction(step.plan) == AllocStatus::ok, "no room to swap");
    run(step);
  };
  const auto out = [&](MemPlan& plan) { return allocator.swap_out(group, plan); };
  const auto in = [&](MemPlan& plan) { return allocator.swap_in(group, Tokens(0), plan); };
  const auto took = [&](auto... work) {
    const Seconds begin = clock.now();
    (work(), ...);
    return clock.now() - begin;
  };
  constexpr std::uint32_t kTurns = 15;
  constexpr Seconds kDrained = 0.02;  // a swap out may end after its step has
  std::vector<Seconds> recompute, swap_in, swap_in_out;
  for (std::uint32_t turn = 0; turn < kTurns; ++turn) {
    request.id = RequestId(turn);  // a history of its own
    Step prompt;
    prompt.plan.swap(admitted);
    prompt.groups.push_back({&request, group, Tokens(0), request.prompt, false});
    prompt.totals = {.groups = 1, .sequences = 1, .prompt_tokens = request.prompt};
    recompute.push_back(took([&] { run(prompt); }));
    swap(out);
    clock.wait_until(clock.now() + kDrained);
    swap_in.push_back(took([&] { swap(in); }));
    swap_in_out.push_back(took([&] { swap(out); }, [&] { swap(in); }));
  }
  return {.swap_in = median(swap_in),
          .swap_in_out = median(swap_in_out),
          .recompute = median(recompute)};
}

// As the step law has it.
SwapCost expected_swap(const ResolvedPoint& point, KvAllocator& allocator, const Request& request,
                       const std::vector<SeqId>& group, MemPlan& admitted) {
  MemPlan in;
  KVSTOW_CHECK(allocator.swap_out(group, admitted) == AllocStatus::ok, "no swap space");
  KVSTOW_CHECK(allocator.swap_in(group, Tokens(0), in) == AllocStatus::ok, "no room to return");
  const Tokens tokens_out = admitted.moved().out;
  const Tokens tokens_in = in.moved().in;
  Step prompt;
  prompt.totals = {.groups = 1, .sequences = 1, .prompt_tokens = request.prompt};
  return {.swap_in = point.step_law.link_time(tokens_in, Tokens(0)),
          .swap_in_out = point.step_law.link_time(tokens_in, tokens_out),
          .recompute = point.step_law.step_time(prompt)};
}

// One sequence of the workload's first prompt: out to the host, back in, and computed anew.
void swap(const ResolvedPoint& point, RunResult& result) {
  const auto workload = make_workload(point.workload, point.seed);
  const std::optional<Request> first = workload->next();
  if (!first) throw InputError("kind swap: the workload has no request to preempt");
  const Request& request = *first;
  const auto allocator = make_allocator(point.system.allocator, pool_config(point));
  const std::vector<SeqId> group = {SeqId(0)};
  MemPlan admitted;
  const AdmitRequest admit = {
      .group = group, .prompt = request.prompt, .expected_total = request.prompt};
  KVSTOW_CHECK(allocator->admit(admit, admitted).status == AllocStatus::ok,
               "an empty pool is full");
  result.swap = point.executor == "simulated"
                    ? expected_swap(point, *allocator, request, group, admitted)
                    : measured_swap(point, *allocator, request, group, admitted);
  result.trace = workload->report();
}

double thread_cpu_s() {
  std::timespec time{};
  ::clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time);
  return static_cast<double>(time.tv_sec) + static_cast<double>(time.tv_nsec) * 1e-9;
}

}  // namespace

std::variant<IterationConfig, StaticBatchConfig> scheduler_config(const ResolvedPoint& point) {
  const SystemConfig& system = point.system;
  if (system.scheduler == SchedulerKind::static_batch) {
    return StaticBatchConfig{.batch_size = point.batch_size,
                             .batch_limit = system.batch_limit_tokens};
  }
  return IterationConfig{.max_batched_tokens = system.max_batched_tokens,
                         .max_sequences = system.max_sequences,
                         .keep_free = watermark(point),
                         .max_model_len = point.model.max_model_len,
                         .estimate = length_estimate(system.estimate),
                         .preemption = system.preemption,
                         .share_prompt = system.share_prompt,
                         .prefix = system.prefix_sharing,
                         .block_tokens = system.block_tokens,
                         .chunked_prefill = system.chunked_prefill};
}

PoolConfig pool_config(const ResolvedPoint& point) {
  const Tokens block = point.system.block_tokens;
  const auto whole_blocks = [&](Tokens slots) { return block * (slots / block); };
  return {.device_slots = whole_blocks(point.pool_slots()),
          .host_slots = whole_blocks(point.host_slots()),
          .block_tokens = block,
          .max_sequence = point.model.max_model_len};
}

Tokens watermark(const ResolvedPoint& point) {
  const std::int64_t blocks = point.pool_slots() / point.system.block_tokens;
  const double kept = std::floor(point.system.watermark_share * static_cast<double>(blocks));
  return point.system.block_tokens * static_cast<std::int64_t>(kept);
}

LengthEstimate length_estimate(EstimateKind kind) {
  switch (kind) {
    case EstimateKind::max:
      return estimate_max;
    case EstimateKind::pow2:
      return estimate_pow2;
    case EstimateKind::oracle:
      return estimate_oracle;
  }
  KVSTOW_CHECK(false, "no such estimate");
}

RunResult run_point(const ResolvedPoint& point) {
  RunResult result;
  static std::mutex device;  // one run at a time has it
  std::unique_lock lock(device, std::defer_lock);
  if (point.executor == "cuda") lock.lock();
  const auto begin = std::chrono::steady_clock::now();
  const double cpu_begin = thread_cpu_s();
  StepTimes times;
  if (point.kind == PointKind::serve) {
    times = serve(point, result);
  } else {
    swap(point, result);
  }
  result.cpu_s = thread_cpu_s() - cpu_begin;
  result.wall_s = std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
  if (point.attribution) {
    RunResult again;
    const StepTimes marked = serve(point, again, /*mark_launches=*/true);
    result.attribution = attribute(times.device, times.host, marked.device);
  }
  return result;
}

}  // namespace kvstow
