#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <map>
#include <nlohmann/json.hpp>
#include <set>

#include "bench/experiment/experiment.h"
#include "bench/experiment/point_json.h"
#include "bench/experiment/real_model.h"
#include "bench/experiment/run_point.h"
#include "bench/kvstow/commands.h"
#include "bench/kvstow/verify_record.h"
#include "bench/verify/verify.h"

namespace kvstow {
namespace {

// Everything that the tokens depend on, and no more.
struct Case {
  std::vector<Request> trace;
  ExecutorFactory executors;
  TokenHashes reference;
};

// What may be asked of an executor. Level 1: a row's bits depend on the step it is computed in (the
// fastest linear layers of a GPU), so systems are compared that make the same steps, from a pool so
// large that none preempts; the first is the reference. Level 2: they depend on its own sequence
// alone, so every system must give what each request gives alone.
enum class Level : std::uint8_t { same_steps = 1, always = 2 };

Level level_of(const ResolvedPoint& point) {
  const bool fastest = point.executor == "cuda" && !point.deterministic;
  return fastest ? Level::same_steps : Level::always;
}

std::vector<Request> requests_of(const ResolvedPoint& point) {
  const auto workload = make_workload(point.workload, point.seed);
  std::vector<Request> trace;
  while (auto request = workload->next()) trace.push_back(std::move(*request));
  return trace;
}

int widest(const std::vector<Request>& trace) {
  int width = 1;
  for (const Request& request : trace) width = std::max(width, request.decoding.width);
  return width;
}

ExecutorFactory executors_of(const ResolvedPoint& point, const std::vector<Request>& trace) {
  if (point.executor == "cuda") {
    return [point, width = widest(trace)](const VerifyArm& arm, const KvAllocator& allocator) {
      DeviceNeeds needs = device_needs(arm.allocator, arm.pool, arm.scheduler, width);
      needs.poison = true;
      return make_cuda_executor(point, allocator, needs);
    };
  }
  return cpu_executors(
      cpu_model(point),
      {.seed = point.seed, .sampling = point.sampling, .threads = point.executor_threads});
}

std::string arm_name(const ResolvedPoint& point) {
  std::string name =
      fmt::format("{}, block {}", point.system.name, point.system.block_tokens.count());
  if (point.system.preemption == Preemption::swap) name += ", swap";
  if (point.workload.scenario == Scenario::shared_prefix) {
    const auto sharing = static_cast<std::size_t>(point.system.prefix_sharing);
    name += fmt::format(", prefix {}", kPrefixSharingNames[sharing]);
  }
  return name;
}

VerifyArm arm_of(const ResolvedPoint& point) {
  return {.name = arm_name(point),
          .allocator = point.system.allocator,
          .pool = pool_config(point),
          .scheduler = scheduler_config(point)};
}

const Case& case_of(const ResolvedPoint& point, std::map<std::string, Case>& cases) {
  const std::string key = fmt::format(
      "{}/{}/{}/{}/{:016x}/{}/{}/{}", point.model.name, point.executor, point.deterministic,
      point.seed, scan_workload(point.workload, point.seed).content_hash,
      point.sampling.temperature, point.sampling.top_k, point.sampling.top_p);
  const auto found = cases.find(key);
  if (found != cases.end()) return found->second;
  Case fresh;
  fresh.trace = requests_of(point);
  fresh.executors = executors_of(point, fresh.trace);
  constexpr std::size_t kManyRequests = 1000;  // too many to serve each of them alone
  const bool always = level_of(point) == Level::always;
  const bool many = fresh.trace.size() > kManyRequests;
  fmt::print("{}: {} requests of {}, {}\n", point.model.name, fresh.trace.size(),
             point.labels.dataset,
             !always ? "the first system first (level 1: the same bits in the same steps)"
             : many  ? "all in an ample pool first (level 2: the same bits always)"
                     : "each alone first (level 2: the same bits always)");
  std::fflush(stdout);
  fresh.reference = !always ? run_arm(arm_of(point), fresh.trace, fresh.executors)
                    : many  ? run_ample(fresh.trace, fresh.executors)
                            : run_alone(fresh.trace, fresh.executors);
  return cases.emplace(key, std::move(fresh)).first->second;
}

std::string outcome(const ArmVerdict& verdict) {
  if (!verdict.error.empty()) return "BROKEN OFF: " + verdict.error;
  if (verdict.different > 0) {
    return fmt::format("{} of {} requests DIFFER, the first is request {}", verdict.different,
                       verdict.compared, verdict.first_different.index());
  }
  if (verdict.compared == 0) return "NOTHING COMPARED: every request was rejected";
  return fmt::format("{} requests identical", verdict.compared) +
         (verdict.rejected > 0 ? fmt::format(", {} rejected", verdict.rejected) : "");
}

}  // namespace

int verify_command(const std::string& file, const std::string& record_file) {
  const Experiment experiment = read_experiment(experiment_file(file));
  std::map<std::string, Case> cases;
  std::set<std::string> seen;
  int broken = 0;
  VerifyRecord record(record_file);
  for (const Curve& curve : experiment.curves) {
    const SearchRate rate{.rate_per_s = curve.rates.empty() ? 0 : curve.rates.front()};
    ResolvedPoint point = point_of(curve, rate, experiment.seed);
    if (point.executor == "simulated") point.executor = "cpu";
    if (point.kind != PointKind::serve) continue;
    const Case& which = case_of(point, cases);
    // Simulated points are the arms of those that are computed.
    if (!seen.insert(config_json(point).dump()).second) continue;
    const VerifyArm arm = arm_of(point);
    const auto begin = std::chrono::steady_clock::now();
    const ArmVerdict verdict = verify_arm(arm, which.trace, which.executors, which.reference);
    const std::chrono::duration<double> wall = std::chrono::steady_clock::now() - begin;
    if (level_of(point) == Level::same_steps && verdict.preemptions > 0) {
      throw InputError(fmt::format(
          "{}: {} preempted: level 1 needs a pool so large that no system does (pool_bytes)",
          experiment.file, arm.name));
    }
    broken += !verdict.ok();
    record.add(point, static_cast<int>(level_of(point)), which.trace.size(), verdict, wall.count());
    fmt::print("  {:<44} {}  ({} preemptions, {} tokens recomputed, {} swapped, {} copied)\n",
               arm.name, outcome(verdict), verdict.preemptions, verdict.recomputed.count(),
               verdict.swapped.count(), verdict.copied.count());
    std::fflush(stdout);
  }
  if (cases.empty()) throw InputError(experiment.file + ": nothing to serve, so nothing to verify");
  fmt::print("{}\n", broken == 0 ? "the same tokens under every system"
                                 : fmt::format("{} systems failed", broken));
  return broken == 0 ? 0 : 1;
}

}  // namespace kvstow
