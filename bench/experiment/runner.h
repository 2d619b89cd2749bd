// Runs experiments point by point on several threads. Points already in the store are not run
// again. The results do not depend on the number of threads.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "bench/experiment/experiment.h"
#include "bench/experiment/store.h"

namespace kvstow {

struct Progress {
  std::size_t done = 0;
  std::size_t total = 0;  // grows while searches add rates
  double elapsed_s = 0;
};

struct RunOptions {
  int jobs = 1;
  std::function<void(const Progress&)> on_progress;  // after every point, one thread at a time
};

struct RunReport {
  std::size_t points = 0;
  std::size_t reused = 0;      // found in the store
  std::size_t superseded = 0;  // old rows moved aside
  double wall_s = 0;
  double cpu_s = 0;                // of the points that were run, all threads together
  double sequence_steps = 0;       // of the points that were run
  std::vector<std::string> notes;  // what a reader should know, one line each
};

[[nodiscard]] RunReport run_experiments(const std::vector<Experiment>& experiments,
                                        const Store& store, const RunOptions& options);

}  // namespace kvstow
