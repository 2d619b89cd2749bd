#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <cmath>
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

// What may be asked of an executor. Level 1: a row's bits depend on the step it is computed in (the
// fastest linear layers of a GPU), so systems are compared that make the same steps, from a pool so
// large that none preempts; the first is the reference. Level 2: they depend on its own sequence
// alone, so every system must give what each request gives alone. Level 3: they depend on the step,
// and the steps differ; the reference's tokens are forced, the logits have to be close and what was
// moved has to be the same bits.
enum class Level : std::uint8_t { same_steps = 1, always = 2, forced = 3 };

// Everything that the tokens depend on, and no more.
struct Case {
  std::vector<Request> trace;
  ExecutorFactory executors;
  TokenHashes hashes;     // levels 1 and 2
  RememberedDraws draws;  // level 3
};

Level level_of(const ResolvedPoint& point, int asked) {
  const bool fastest = point.executor == "cuda" && !point.deterministic;
  if (asked == 0) return fastest ? Level::same_steps : Level::always;
  const auto level = static_cast<Level>(asked);
  if (level == Level::always && fastest) {
    throw InputError(
        "--level 2: executor cuda needs `deterministic: true` for the same bits always");
  }
  return level;
}

// Relative L2 of a row of logits between two orders of summation, in unit roundoffs of the dtype.
// The largest one found is printed beside it.
constexpr double kToleranceInRoundoffs = 16;

double tolerance_of(const ResolvedPoint& point) {
  const int bits = point.model.dtype == "f32" ? 24 : point.model.dtype == "f16" ? 11 : 8;
  return std::ldexp(kToleranceInRoundoffs, -bits);
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

// Level 3 keeps the logits that its reference drew from.
void check_logits_fit(const ResolvedPoint& point, const std::vector<Request>& trace) {
  constexpr double kLimitGb = 16;
  double rows = 0;
  for (const Request& request : trace) {
    rows += static_cast<double>(request.output.count()) * request.decoding.width;
  }
  const double gb = rows * static_cast<double>(point.model.vocab) * sizeof(float) / 1e9;
  if (gb > kLimitGb) {
    throw InputError(
        fmt::format("--level 3: the reference's logits of {} requests take {:.0f} GB of memory, "
                    "more than {:.0f}: fewer max_requests, or a smaller vocabulary",
                    trace.size(), gb, kLimitGb));
  }
}

ExecutorFactory executors_of(const ResolvedPoint& point, const std::vector<Request>& trace) {
  if (point.executor == "cuda") {
    return [point, width = widest(trace)](const VerifyArm& arm, const KvAllocator& allocator,
                                          Teacher* teacher) {
      DeviceNeeds needs = device_needs(arm.allocator, arm.pool, arm.scheduler, width);
      needs.poison = true;
      needs.teacher = teacher;
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
  if (point.system.chunked_prefill) {
    name += fmt::format(", chunks of {}", point.system.max_batched_tokens.count());
  }
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

// Computes the reference.
Case case_of(const ResolvedPoint& point, Level level) {
  Case fresh;
  fresh.trace = requests_of(point);
  if (level == Level::forced) check_logits_fit(point, fresh.trace);
  fresh.executors = executors_of(point, fresh.trace);
  constexpr std::size_t kManyRequests = 1000;  // too many to serve each of them alone
  const bool many = fresh.trace.size() > kManyRequests;
  const auto say = [&](const std::string& what) {
    fmt::print("{}: {} requests of {}, {}\n", point.model.name, fresh.trace.size(),
               point.labels.dataset, what);
    std::fflush(stdout);
  };
  switch (level) {
    case Level::same_steps:
      say("the first system first (level 1: the same bits in the same steps)");
      fresh.hashes = run_arm(arm_of(point), fresh.trace, fresh.executors);
      break;
    case Level::always:
      say(fmt::format("{} first (level 2: the same bits always)",
                      many ? "all in an ample pool" : "each alone"));
      fresh.hashes =
          many ? run_ample(fresh.trace, fresh.executors) : run_alone(fresh.trace, fresh.executors);
      break;
    case Level::forced:
      say(fmt::format(
          "all in an ample pool first (level 3: its tokens forced, logits within {:.2g}, "
          "the same bits wherever they are moved)",
          tolerance_of(point)));
      fresh.draws = run_reference(fresh.trace, fresh.executors, point.sampling, point.seed);
      break;
  }
  return fresh;
}

const Case& known_case(const ResolvedPoint& point, Level level,
                       std::map<std::string, Case>& cases) {
  const std::string key = fmt::format(
      "{}/{}/{}/{}/{:016x}/{}/{}/{}", point.model.name, point.executor, point.deterministic,
      point.seed, scan_workload(point.workload, point.seed).content_hash,
      point.sampling.temperature, point.sampling.top_k, point.sampling.top_p);
  const auto found = cases.find(key);
  if (found != cases.end()) return found->second;
  return cases.emplace(key, case_of(point, level)).first->second;
}

ArmVerdict verdict_of(const ResolvedPoint& point, Level level, const Case& which,
                      const std::string& file) {
  const VerifyArm arm = arm_of(point);
  if (level == Level::forced) {
    return verify_forced(arm, which.trace, which.executors, which.draws, tolerance_of(point));
  }
  const ArmVerdict verdict = verify_arm(arm, which.trace, which.executors, which.hashes);
  if (level == Level::same_steps && verdict.preemptions > 0) {
    throw InputError(fmt::format(
        "{}: {} preempted: level 1 needs a pool so large that no system does (pool_bytes)", file,
        arm.name));
  }
  return verdict;
}

std::string first_row(const ArmVerdict& verdict) {
  if (!verdict.logits) return "";
  const LogitsVerdict::Place& first = verdict.logits->first;
  return fmt::format(
      " (the first row: request {}, sequence {}, output token {}, logits {:.2g} apart)",
      first.request.index(), first.sample, first.position.count(), first.error);
}

std::string outcome(const ArmVerdict& verdict) {
  if (!verdict.error.empty()) return "BROKEN OFF: " + verdict.error;
  if (verdict.different > 0) {
    return fmt::format("{} of {} requests DIFFER, the first is request {}", verdict.different,
                       verdict.compared, verdict.first_different.index()) +
           first_row(verdict);
  }
  if (verdict.compared == 0) return "NOTHING COMPARED: every request was rejected";
  const std::string same =
      verdict.logits ? fmt::format("{} requests, {} rows of logits within {:.2g}", verdict.compared,
                                   verdict.logits->rows, verdict.logits->largest)
                     : fmt::format("{} requests identical", verdict.compared);
  return same + (verdict.rejected > 0 ? fmt::format(", {} rejected", verdict.rejected) : "");
}

}  // namespace

int verify_command(const VerifyArguments& arguments) {
  const Experiment experiment = read_experiment(experiment_file(arguments.file));
  std::map<std::string, Case> cases;
  std::set<std::string> seen;
  int broken = 0;
  VerifyRecord record(arguments.record);
  Level level{};
  for (const Curve& curve : experiment.curves) {
    const SearchRate rate{.rate_per_s = curve.rates.empty() ? 0 : curve.rates.front()};
    ResolvedPoint point = point_of(curve, rate, experiment.seed);
    if (point.executor == "simulated") point.executor = "cpu";
    if (point.kind != PointKind::serve) continue;
    level = level_of(point, arguments.level);
    const Case& which = known_case(point, level, cases);
    // Simulated points are the arms of those that are computed.
    if (!seen.insert(config_json(point).dump()).second) continue;
    const auto begin = std::chrono::steady_clock::now();
    const ArmVerdict verdict = verdict_of(point, level, which, experiment.file);
    const std::chrono::duration<double> wall = std::chrono::steady_clock::now() - begin;
    broken += !verdict.ok();
    record.add(point, static_cast<int>(level), which.trace.size(), verdict, wall.count());
    fmt::print("  {:<44} {}  ({} preemptions, {} tokens recomputed, {} swapped, {} copied)\n",
               verdict.name, outcome(verdict), verdict.preemptions, verdict.recomputed.count(),
               verdict.swapped.count(), verdict.copied.count());
    if (!verdict.fault.empty()) fmt::print("    with every call checked: {}\n", verdict.fault);
    std::fflush(stdout);
  }
  if (cases.empty()) {
    throw InputError(experiment.file + ": nothing to serve, so nothing to verify");
  }
  fmt::print("{}\n", broken > 0 ? fmt::format("{} systems failed", broken)
                     : level == Level::forced
                         ? "the same logits within the tolerance under every system"
                         : "the same tokens under every system");
  return broken == 0 ? 0 : 1;
}

}  // namespace kvstow
