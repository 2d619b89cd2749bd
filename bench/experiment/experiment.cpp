#include "bench/experiment/experiment.h"

#include <fmt/format.h>

#include <algorithm>
#include <set>
#include <span>

#include "bench/experiment/settings.h"

namespace kvstow {
namespace {

// The paper's suite has 2,060. Nobody waits for more than this, and it would not fit into memory.
constexpr std::size_t kMostPoints = 100'000;

// Axes of one sweep, in the order in which the file names them: setting -> values.
using Axes = std::vector<std::pair<std::string, std::vector<ConfigNode>>>;

std::vector<std::string> with_settings(std::vector<std::string> keys) {
  const std::vector<std::string>& settings = setting_names();
  keys.insert(keys.end(), settings.begin(), settings.end());
  return keys;
}

SearchConfig read_search(const ConfigNode& node) {
  const ConfigMap map(
      node, {"extend_until_s_per_token", "refine_s_per_token", "refine_share", "capacity_shares"});
  SearchConfig search;
  if (const auto until = map.find("extend_until_s_per_token")) {
    search.extend_until_s_per_token = until->number_above(0);
  }
  if (const auto levels = map.find("refine_s_per_token")) {
    for (const ConfigNode& level : levels->items_or_one()) {
      search.refine_s_per_token.push_back(level.number_above(0));
    }
  }
  if (const auto share = map.find("refine_share")) {
    search.refine_share = share->number_above(0);
  }
  if (const auto shares = map.find("capacity_shares")) {
    if (search.extend_until_s_per_token <= 0) shares->fail("needs extend_until_s_per_token");
    for (const ConfigNode& share : shares->items_or_one()) {
      search.capacity_shares.push_back(share.number_above(0));
    }
  }
  return search;
}

// What an experiment or a panel of it says for all its curves.
struct Scope {
  std::string panel;
  std::string figure;
  Settings settings;
  SearchConfig search;
  ConfigNode where;
};

void take_scope(const ConfigMap& map, Scope& scope) {
  for (const std::string& name : setting_names()) {
    if (const auto value = map.find(name)) scope.settings.insert_or_assign(name, *value);
  }
  if (const auto search = map.find("search")) scope.search = read_search(*search);
}

std::vector<Axes> read_sweeps(const ConfigNode& node) {
  std::vector<Axes> sweeps;
  for (const ConfigNode& item : node.items_or_one()) {
    const ConfigMap map(item, setting_names());
    Axes axes;
    for (const auto& [name, values] : map.entries()) {
      axes.emplace_back(name, name == "labels" || name == "workload"
                                  ? std::vector<ConfigNode>{values}
                                  : values.items_or_one());
    }
    sweeps.push_back(std::move(axes));
  }
  return sweeps;
}

std::vector<double> read_rates(const std::vector<ConfigNode>& values) {
  std::vector<double> rates;
  for (const ConfigNode& value : values) {
    const double rate = value.number_above(0);
    if (!rates.empty() && rate <= rates.back()) value.fail("rates must ascend");
    rates.push_back(rate);
  }
  return rates;
}

class Reader {
 public:
  Reader(Experiment& experiment, const ReadOptions& options)
      : experiment_(experiment), options_(options) {}

  void read(const ConfigNode& file) {
    const ConfigMap map(file, with_settings({"name", "figure", "title", "seed", "repeats", "search",
                                             "sweep", "panels"}));
    experiment_.name = map.at("name").text();
    if (experiment_.name.empty()) map.at("name").fail("an experiment needs one");
    experiment_.title = map.at("title").text();
    if (const auto seed = map.find("seed")) {
      experiment_.seed = static_cast<std::uint64_t>(seed->integer_at_least(0));
    }
    if (const auto repeats = map.find("repeats")) {
      experiment_.repeats = repeats->count_at_least(1);
    }
    if (options_.reduced < 1) experiment_.repeats = 1;
    Scope scope{.panel = "", .figure = "", .settings = {}, .search = {}, .where = file};
    if (const auto figure = map.find("figure")) scope.figure = figure->text();
    take_scope(map, scope);
    const auto sweep = map.find("sweep");
    const auto panels = map.find("panels");
    if (!panels) {
      expand_sweeps(scope, map.at("sweep"));
    } else {
      for (const ConfigNode& panel : panels->items()) read_panel(panel, scope, sweep);
    }
    scan_traces();
  }

 private:
  void read_panel(const ConfigNode& node, Scope scope,
                  const std::optional<ConfigNode>& default_sweep) {
    const ConfigMap map(node, with_settings({"panel", "figure", "search", "sweep"}));
    scope.panel = map.at("panel").text();
    scope.where = node;
    if (const auto figure = map.find("figure")) scope.figure = figure->text();
    take_scope(map, scope);
    const auto sweep = map.find("sweep");
    expand_sweeps(scope, sweep || !default_sweep ? map.at("sweep") : *default_sweep);
  }

  void expand_sweeps(const Scope& scope, const ConfigNode& sweep) {
    for (const Axes& axes : read_sweeps(sweep)) expand(axes, 0, scope);
  }

  // The cross product of all axes but the rate, one curve each.
  void expand(const Axes& axes, std::size_t axis, Scope scope) {
    if (axis == axes.size()) return add_curve(axes, scope);
    const auto& [name, values] = axes[axis];
    const bool one_curve = name == "rate_per_s";  // checked at its highest rate
    for (const ConfigNode& value : std::span(values).last(one_curve ? 1 : values.size())) {
      scope.settings.insert_or_assign(name, value);
      expand(axes, axis + 1, scope);
    }
  }

  void add_curve(const Axes& axes, const Scope& scope) {
    DraftPoint draft = draft_point(scope.settings, library_, scope.where);
    if (!draft.missing_file.empty()) return skip(draft.missing_file, scope.panel);
    Curve curve{.base = std::move(draft.point), .rates = {}, .search = {}};
    if (options_.reduced == 1) curve.search = scope.search;
    if (options_.simulated) predict(curve.base, axes, scope);
    curve.base.labels.experiment = experiment_.name;
    curve.base.labels.figure = scope.figure;
    curve.base.labels.panel = scope.panel;
    curve.base.workload.duration_s *= options_.reduced;
    curve.base.window_from_s *= options_.reduced;
    curve.base.window_to_s *= options_.reduced;
    for (const auto& [name, values] : axes) {
      if (name == "rate_per_s") curve.rates = read_rates(values);
    }
    if (curve.rates.empty() && curve.base.workload.rate_per_s > 0) {
      curve.rates = {curve.base.workload.rate_per_s};
    }
    experiment_.listed_points += std::max<std::size_t>(curve.rates.size(), 1) *
                                 static_cast<std::size_t>(experiment_.repeats);
    if (experiment_.listed_points > kMostPoints) {
      scope.where.fail(
          fmt::format("the sweep and its repeats are more than {} points", kMostPoints));
    }
    experiment_.curves.push_back(std::move(curve));
  }

  static void predict(ResolvedPoint& point, const Axes& axes, const Scope& scope) {
    for (const auto& [name, values] : axes) {
      if (name == "executor" && values.size() > 1) {
        scope.where.fail("--simulated: the sweep has executors of its own");
      }
    }
    point.executor = "simulated";
    point.attribution = false;
    point.profile_from = point.profile_to = 0;
  }

  void skip(const std::string& file, const std::string& panel) {
    const std::string line = fmt::format("{}: left out{}: no file '{}'", experiment_.name,
                                         panel.empty() ? "" : " panel " + panel, file);
    std::vector<std::string>& skipped = experiment_.skipped;
    if (std::find(skipped.begin(), skipped.end(), line) == skipped.end()) skipped.push_back(line);
  }

  // Every trace file is read once now, so that a broken one stops the run before it starts.
  void scan_traces() {
    std::set<std::string> seen;
    for (const Curve& curve : experiment_.curves) {
      const WorkloadConfig& workload = curve.base.workload;
      if (!workload.file.empty() && seen.insert(workload.file).second) {
        (void)make_workload(workload, experiment_.seed);
      }
    }
  }

  Experiment& experiment_;
  ReadOptions options_;
  Library library_;
};

}  // namespace

bool Experiment::searches() const {
  return std::any_of(curves.begin(), curves.end(), [](const Curve& curve) {
    return curve.search.extend_until_s_per_token > 0 || !curve.search.refine_s_per_token.empty();
  });
}

Experiment read_experiment(const std::string& path, const ReadOptions& options) {
  Experiment experiment;
  experiment.file = path;
  Reader(experiment, options).read(ConfigNode::load_file(path));
  return experiment;
}

ResolvedPoint point_of(const Curve& curve, const SearchRate& rate, std::uint64_t seed) {
  ResolvedPoint point = curve.base;
  point.seed = seed;
  if (rate.rate_per_s > 0) point.workload.rate_per_s = rate.rate_per_s;
  point.labels.refined = rate.refined;
  point.labels.capacity_share = rate.capacity_share;
  return point;
}

}  // namespace kvstow
