#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <set>
#include <thread>

#include "bench/experiment/data_root.h"
#include "bench/experiment/runner.h"
#include "bench/kvstow/commands.h"
#include "bench/kvstow/progress.h"
#include "core/text.h"

namespace kvstow {
namespace {

namespace fs = std::filesystem;

std::vector<Experiment> read_all(const std::vector<std::string>& files,
                                 const ReadOptions& options) {
  std::vector<Experiment> experiments;
  std::set<std::string> names;
  for (const std::string& argument : files) {
    experiments.push_back(read_experiment(experiment_file(argument), options));
    const Experiment& experiment = experiments.back();
    for (const std::string& line : experiment.skipped) fmt::print("{}\n", line);
    if (!names.insert(experiment.name).second) {
      throw InputError(fmt::format("{}: a second experiment of the name '{}'", experiment.file,
                                   experiment.name));
    }
  }
  return experiments;
}

}  // namespace

std::vector<std::string> experiment_names() {
  const fs::path folder = data_root() / "bench" / "experiments";
  std::vector<std::string> names;
  for (const auto& entry : fs::recursive_directory_iterator(folder)) {
    if (entry.path().extension() != ".yaml") continue;
    names.push_back(entry.path().lexically_relative(folder).replace_extension("").string());
  }
  std::sort(names.begin(), names.end());
  return names;
}

std::string experiment_file(const std::string& argument) {
  if (fs::exists(argument) && !fs::is_directory(argument)) return argument;  // or a pipe
  const std::vector<std::string> names = experiment_names();
  if (std::find(names.begin(), names.end(), argument) != names.end()) {
    return file_of("experiments", argument);
  }
  throw InputError(fmt::format("{}: no such file or experiment (nearest: {})", argument,
                               nearest_name(argument, names)));
}

int validate_command(const std::vector<std::string>& files) {
  for (const Experiment& experiment : read_all(files, {})) {
    fmt::print("{}: good, {} points{}\n", experiment.file, experiment.listed_points,
               experiment.searches() ? " and what the search adds" : "");
  }
  return 0;
}

int run_command(const RunArguments& arguments) {
  if (!(arguments.reduced > 0 && arguments.reduced <= 1)) {
    throw InputError("--reduced: must be above 0 and at most 1");
  }
  const std::vector<Experiment> experiments =
      read_all(arguments.files, {.reduced = arguments.reduced, .simulated = arguments.simulated});
  const Store store(arguments.out);
  ProgressPrinter printer;
  RunOptions options;
  options.jobs = arguments.jobs > 0
                     ? arguments.jobs
                     : std::max(1, static_cast<int>(std::thread::hardware_concurrency()));
  options.on_progress = [&](const Progress& progress) { printer.show(progress); };
  const RunReport report = run_experiments(experiments, store, options);
  printer.finish();
  for (const std::string& note : report.notes) fmt::print("{}\n", note);
  if (report.superseded > 0) {
    fmt::print("{} rows of an earlier build or file moved to {}/superseded\n", report.superseded,
               arguments.out);
  }
  fmt::print("{} points in {} ({} found done, {} threads)", report.points,
             format_seconds(report.wall_s), report.reused, options.jobs);
  if (report.cpu_s > 0) {
    fmt::print("; {:.1f} million sequence-steps per second of a core",
               report.sequence_steps / report.cpu_s / 1e6);
  }
  fmt::print("\n{}/runs.csv\n", arguments.out);
  return 0;
}

int analysis_command(const std::string& script, const std::vector<std::string>& arguments) {
  const char* const chosen = std::getenv("KVSTOW_PYTHON");
  const std::string python = chosen != nullptr && *chosen != '\0' ? chosen : KVSTOW_PYTHON_DEFAULT;
  std::vector<std::string> words = {python, (data_root() / "analysis" / script).string()};
  words.insert(words.end(), arguments.begin(), arguments.end());
  std::vector<char*> argv;
  for (std::string& word : words) argv.push_back(word.data());
  argv.push_back(nullptr);
  std::fflush(stdout);
  ::execvp(argv[0], argv.data());
  throw InputError(fmt::format("{}: cannot run this python; set KVSTOW_PYTHON", python));
}

}  // namespace kvstow
