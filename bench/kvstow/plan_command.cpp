#include <fmt/format.h>

#include <set>

#include "bench/experiment/experiment.h"
#include "bench/experiment/fit.h"
#include "bench/experiment/point_json.h"
#include "bench/experiment/run_point.h"
#include "bench/kvstow/commands.h"
#include "core/text.h"

namespace kvstow {
namespace {

void print_server(const ResolvedPoint& point) {
  fmt::print("\n{} on {} x {}, {}\n", point.model.name, point.tensor_parallel, point.device,
             point.labels.dataset);
  fmt::print("  K and V       {} per token\n",
             format_bytes(point.model.kv_bytes_per_token().count()));
  fmt::print("  pool          {} bytes ({}), {} slots\n", format_count(point.pool.count()),
             format_bytes(point.pool.count()), format_count(point.pool_slots().count()));
  fmt::print("  swap space    {}, {} slots\n", format_bytes(point.host_pool.count()),
             format_count(point.host_slots().count()));
  fmt::print("  {:<20}{:>7}{:>9}{:>13}{:>11}{:>13}\n", "system", "block", "blocks", "metadata",
             "admitted", "full length");
}

void print_system(const ResolvedPoint& point) {
  const FitCount fit = count_fitting(point);
  const PoolConfig pool = pool_config(point);
  fmt::print("  {:<20}{:>7}{:>9}{:>13}{:>11}{:>13}\n", point.system.name, pool.block_tokens.count(),
             format_count(pool.device_slots / pool.block_tokens),
             format_bytes(fit.metadata.count()), fit.admitted, fit.full_length);
}

}  // namespace

int plan_command(const std::string& file) {
  const Experiment experiment = read_experiment(experiment_file(file));
  fmt::print("{}: {}\n{} points are listed", experiment.name, experiment.title,
             experiment.listed_points);
  fmt::print("{}\n", experiment.searches() ? "; the search adds more" : "");
  for (const std::string& line : experiment.skipped) fmt::print("{}\n", line);
  std::string server;
  std::set<std::string> seen;
  for (const Curve& curve : experiment.curves) {
    const double rate = curve.rates.empty() ? 0 : curve.rates.front();
    ResolvedPoint point = point_of(curve, {rate}, experiment.seed);
    if (point.kind != PointKind::serve) continue;
    const std::string here = point.model.name + point.device + point.labels.dataset +
                             std::to_string(point.pool.count()) + decoding_name(point.workload);
    const std::string arm = here + point.system.name +
                            std::to_string(point.system.block_tokens.count()) +
                            std::to_string(point.workload.decodings.front().decoding.width);
    if (!seen.insert(arm).second) continue;
    if (here != server) print_server(point);
    server = here;
    print_system(point);
  }
  fmt::print(
      "\nadmitted: requests of the workload, in order, until the allocator refuses one;\n"
      "full length: the same, each grown to its true length before the next.\n");
  return 0;
}

}  // namespace kvstow
