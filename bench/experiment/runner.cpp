#include "bench/experiment/runner.h"

#include <fmt/format.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <exception>
#include <map>
#include <mutex>
#include <nlohmann/json.hpp>
#include <set>
#include <system_error>
#include <thread>

#include "bench/experiment/point_json.h"
#include "bench/experiment/row.h"
#include "bench/experiment/run_point.h"

namespace kvstow {
namespace {

// One curve while it runs.
struct CurveState {
  const Experiment* experiment;
  const Curve* curve;
  std::map<double, double> measured;  // rate -> mean normalised latency over the seeds
  bool done = false;
};

struct Task {
  CurveState* state;
  SearchRate rate;
  ResolvedPoint point;
  std::string key;

  // filled by the run
  double latency = 0;
  double dropped_share = 0;
  std::string attribution;  // as a table, where the row has one
};

class Runner {
 public:
  Runner(const std::vector<Experiment>& experiments, const Store& store, const RunOptions& options)
      : store_(store), options_(options) {
    for (const Experiment& experiment : experiments) {
      for (const Curve& curve : experiment.curves) states_.push_back({&experiment, &curve, {}});
    }
  }

  RunReport run(const std::vector<Experiment>& experiments) {
    for (;;) {
      std::vector<Task> round = next_round();
      if (round.empty()) break;
      progress_.total += round.size();
      run_round(round);
      take_results(round);
    }
    for (const Experiment& experiment : experiments) {
      report_.superseded += store_.record(experiment.name, experiment.file, keys_[experiment.name]);
    }
    for (const auto& [line, share] : dropped_) {
      report_.notes.push_back(fmt::format("{}: {:.1f} % of the requests are over the model's limit",
                                          line, 100 * share));
    }
    report_.wall_s = elapsed();
    return report_;
  }

 private:
  std::vector<Task> next_round() {
    std::vector<Task> round;
    for (CurveState& state : states_) {
      if (state.done) continue;
      const Experiment& experiment = *state.experiment;
      std::vector<SearchRate> rates;
      if (state.curve->rates.empty()) {
        rates = {SearchRate{}};
        state.done = true;
      } else {
        rates = next_rates(state.curve->search, state.curve->rates, state.measured);
        state.done = rates.empty() || rates.back().capacity_share > 0;
      }
      for (const SearchRate& rate : rates) {
        for (int i = 0; i < experiment.repeats; ++i) {
          const std::uint64_t seed = experiment.seed + static_cast<std::uint64_t>(i);
          const ResolvedPoint point = point_of(*state.curve, rate, seed);
          round.push_back({&state, rate, point, point_key(point)});
        }
      }
    }
    return round;
  }

  // Longest first, so that no thread is left alone with a long point at the end.
  void run_round(std::vector<Task>& round) {
    std::set<std::string> keys;
    std::vector<Task*> order, again;  // again: what a file lists twice
    for (Task& task : round) (keys.insert(task.key).second ? order : again).push_back(&task);
    std::stable_sort(order.begin(), order.end(), [](const Task* a, const Task* b) {
      const auto requests = [](const Task* t) {
        return t->point.workload.rate_per_s * t->point.workload.duration_s;
      };
      return requests(a) > requests(b);
    });
    std::atomic<std::size_t> next = 0;
    std::atomic<bool> failed = false;
    std::exception_ptr failure;
    const auto work = [&] {
      for (std::size_t i = next++; i < order.size() && !failed; i = next++) {
        try {
          run_task(*order[i]);
        } catch (...) {
          const std::lock_guard lock(mutex_);
          if (!failed.exchange(true)) failure = std::current_exception();
        }
      }
    };
    const auto threads =
        std::min<std::size_t>(static_cast<std::size_t>(options_.jobs), order.size());
    std::vector<std::thread> pool;
    try {
      for (std::size_t i = 1; i < threads; ++i) pool.emplace_back(work);
    } catch (const std::system_error&) {  // the machine has no more: those that there are do it all
    }
    work();
    for (std::thread& thread : pool) thread.join();
    if (failure) std::rethrow_exception(failure);
    for (Task* task : again) run_task(*task);
  }

  void run_task(Task& task) {
    std::optional<nlohmann::json> row = store_.load(task.key);
    const bool reused = row.has_value();
    RunResult result;
    if (!reused) {
      try {
        result = run_point(task.point);
      } catch (const InputError& error) {  // lengths are drawn only now
        throw InputError(fmt::format("{}: {}", task.state->experiment->file, error.what()));
      }
      row = row_json(task.point, task.key, result);
      if (task.point.records) store_.save_records(task.key, result.records);
      store_.save(task.key, *row, serve_json(task.point, result));
    }
    task.latency = latency_of(*row);
    task.dropped_share = row->at("trace").at("dropped_share").get<double>();
    if (row->contains("attribution")) task.attribution = attribution_text(row->at("attribution"));

    const std::lock_guard lock(mutex_);
    ++report_.points;
    report_.reused += reused ? 1 : 0;
    report_.cpu_s += result.cpu_s;
    report_.sequence_steps += static_cast<double>(result.summary.sequence_steps);
    ++progress_.done;
    progress_.elapsed_s = elapsed();
    if (options_.on_progress) options_.on_progress(progress_);
  }

  // Tasks of one rate stand together, seeds ascending: sums do not depend on who ran first.
  void take_results(const std::vector<Task>& round) {
    for (std::size_t i = 0; i < round.size();) {
      const Task& first = round[i];
      const auto seeds = static_cast<std::size_t>(first.state->experiment->repeats);
      double sum = 0;
      for (std::size_t j = 0; j < seeds; ++j) {
        const Task& task = round[i + j];
        sum += task.latency;
        const std::string& experiment = task.state->experiment->name;
        if (listed_.insert(task.key).second) keys_[experiment].push_back(task.key);
        if (!task.attribution.empty()) {
          report_.notes.push_back(fmt::format("{}, {}, seed {}: {}", task.point.model.name,
                                              task.point.system.name, task.point.seed,
                                              task.attribution));
        }
        if (task.dropped_share > 0) {
          dropped_[experiment + " (" + task.point.labels.dataset + ")"] = task.dropped_share;
        }
      }
      first.state->measured[first.rate.rate_per_s] = sum / static_cast<double>(seeds);
      i += seeds;
    }
  }

  [[nodiscard]] double elapsed() const {
    return std::chrono::duration<double>(std::chrono::steady_clock::now() - begin_).count();
  }

  const Store& store_;
  const RunOptions& options_;
  std::vector<CurveState> states_;
  std::map<std::string, std::vector<std::string>> keys_;  // by experiment, in order, each once
  std::set<std::string> listed_;                          // the same keys
  std::map<std::string, double> dropped_;
  std::chrono::steady_clock::time_point begin_ = std::chrono::steady_clock::now();

  std::mutex mutex_;  // guards what follows while a round runs
  Progress progress_;
  RunReport report_;
};

}  // namespace

RunReport run_experiments(const std::vector<Experiment>& experiments, const Store& store,
                          const RunOptions& options) {
  return Runner(experiments, store, options).run(experiments);
}

}  // namespace kvstow
