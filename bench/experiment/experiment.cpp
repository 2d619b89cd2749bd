#include "bench/experiment/experiment.h"

#include <fmt/format.h>

#include <algorithm>
#include <set>

#include "bench/experiment/settings.h"

namespace kvstow {
namespace {

// Axes of one sweep, in the order in which the file names them: setting -> values.
using Axes = std::vector<std::pair<std::string, std::vector<ConfigNode>>>;

std::vector<std::string> with_settings(std::vector<std::string> keys) {
  const std::vector<std::string>& settings = setting_names();
  keys.insert(keys.end(), settings.begin(), settings.end());
  return keys;
}

void take_settings(const ConfigMap& map, Settings& settings) {
  for (const std::string& name : setting_names()) {
    if (const auto value = map.find(name)) settings.insert_or_assign(name, *value);
  }
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
    experiment_.title = map.at("title").text();
    if (const auto figure = map.find("figure")) experiment_.figure = figure->text();
    if (const auto seed = map.find("seed")) {
      experiment_.seed = static_cast<std::uint64_t>(seed->integer_at_least(0));
    }
    if (const auto repeats = map.find("repeats")) {
      experiment_.repeats = static_cast<int>(repeats->integer_at_least(1));
    }
    if (const auto search = map.find("search")) experiment_.search = read_search(*search);
    Settings settings;
    take_settings(map, settings);
    const auto sweep = map.find("sweep");
    const auto panels = map.find("panels");
    if (!panels) {
      expand_sweeps(settings, "", sweep ? *sweep : map.at("sweep"), file);
    } else {
      for (const ConfigNode& panel : panels->items()) read_panel(panel, settings, sweep);
    }
    scan_traces();
  }

 private:
  void read_panel(const ConfigNode& node, Settings settings,
                  const std::optional<ConfigNode>& default_sweep) {
    const ConfigMap map(node, with_settings({"panel", "figure", "sweep"}));
    take_settings(map, settings);
    const std::string outer = experiment_.figure;
    if (const auto figure = map.find("figure")) experiment_.figure = figure->text();
    const auto sweep = map.find("sweep");
    expand_sweeps(settings, map.at("panel").text(),
                  sweep || !default_sweep ? map.at("sweep") : *default_sweep, node);
    experiment_.figure = outer;
  }

  void expand_sweeps(const Settings& settings, const std::string& panel, const ConfigNode& sweep,
                     const ConfigNode& where) {
    for (const Axes& axes : read_sweeps(sweep)) expand(axes, 0, settings, panel, where);
  }

  // The cross product of all axes but the rate, one curve each.
  void expand(const Axes& axes, std::size_t axis, const Settings& settings,
              const std::string& panel, const ConfigNode& where) {
    if (axis == axes.size()) return add_curve(axes, settings, panel, where);
    const auto& [name, values] = axes[axis];
    if (name == "rate_per_s") {
      Settings with = settings;
      with.insert_or_assign(name, values.front());
      return expand(axes, axis + 1, with, panel, where);
    }
    for (const ConfigNode& value : values) {
      Settings with = settings;
      with.insert_or_assign(name, value);
      expand(axes, axis + 1, with, panel, where);
    }
  }

  void add_curve(const Axes& axes, const Settings& settings, const std::string& panel,
                 const ConfigNode& where) {
    DraftPoint draft = draft_point(settings, library_, where);
    if (!draft.missing_file.empty()) return skip(draft.missing_file, panel);
    Curve curve{std::move(draft.point), {}};
    curve.base.labels.experiment = experiment_.name;
    curve.base.labels.figure = experiment_.figure;
    curve.base.labels.panel = panel;
    curve.base.workload.duration_s *= options_.reduced;
    curve.base.window_from_s *= options_.reduced;
    curve.base.window_to_s *= options_.reduced;
    for (const auto& [name, values] : axes) {
      if (name == "rate_per_s") curve.rates = read_rates(values);
    }
    if (curve.rates.empty() && curve.base.workload.rate_per_s > 0) {
      curve.rates = {curve.base.workload.rate_per_s};
    }
    experiment_.curves.push_back(std::move(curve));
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

std::size_t Experiment::listed_points() const {
  std::size_t points = 0;
  for (const Curve& curve : curves) {
    points += std::max<std::size_t>(curve.rates.size(), 1) * static_cast<std::size_t>(repeats);
  }
  return points;
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
