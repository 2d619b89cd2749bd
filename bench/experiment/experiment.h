// An experiment file, read and checked whole: bench/experiments/README.md describes the format.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "bench/experiment/point.h"
#include "bench/experiment/search.h"

namespace kvstow {

// Points that differ in rate and seed only.
struct Curve {
  ResolvedPoint base;
  std::vector<double> rates;  // ascending; empty where the workload has no rate to sweep
  SearchConfig search;
};

struct Experiment {
  std::string name;
  std::string title;
  std::string file;
  std::uint64_t seed = 1;
  int repeats = 1;  // seeds seed, seed + 1, ...
  std::vector<Curve> curves;
  std::size_t listed_points = 0;     // runs that are known before anything is measured
  std::vector<std::string> skipped;  // why parts were left out, one line each

  // Whether a search may add more.
  [[nodiscard]] bool searches() const;
};

struct ReadOptions {
  // In (0, 1]. Below 1, a quick look: durations and windows are multiplied by it, only the first
  // seed and the listed rates are run.
  double reduced = 1;
  // Predict: executor simulated in place of one that computes, everything else as it is.
  bool simulated = false;
};

// Throws InputError (one line, FILE:LINE) for anything that could not run: every name, number and
// trace file is checked here, before the first point runs.
[[nodiscard]] Experiment read_experiment(const std::string& path, const ReadOptions& options = {});

// The curve's point at one rate and seed.
[[nodiscard]] ResolvedPoint point_of(const Curve& curve, const SearchRate& rate,
                                     std::uint64_t seed);

}  // namespace kvstow
