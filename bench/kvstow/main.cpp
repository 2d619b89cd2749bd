// kvstow: the command line. Exit codes: 0 good, 1 a check failed, 2 bad input, files that cannot be
// read or written, too little memory (one line on stderr), 3 a bug.
#include <fcntl.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <exception>
#include <new>
#include <string>
#include <system_error>

#include "bench/experiment/build_info.h"
#include "bench/kvstow/commands.h"
#include "core/check.h"
#include "core/text.h"

namespace {

constexpr int kBadInput = 2;
constexpr int kBug = 3;

constexpr const char* kAbout =
    "kvstow measures KV-cache memory managers under one engine, one scheduler and one cost model.\n"
    "An experiment is a YAML file; every point of it becomes one self-explaining JSON row.";

constexpr const char* kExamples =
    "Examples:\n"
    "  kvstow run smoke                          a first run, under two seconds, into out/\n"
    "  kvstow plan smoke                         what would fit, before anything runs\n"
    "  kvstow run paper/fig12 --out out/fig12    an experiment of the paper\n"
    "  kvstow run mine.yaml --jobs 8             your own; run again to resume what was killed\n"
    "  kvstow report out/fig12                   figures and an HTML report of what is there\n"
    "  kvstow verify smoke-cpu                   the same tokens under every system, bit for bit\n"
    "  kvstow list systems                       names that YAML files may use\n"
    "Experiment files are described in bench/experiments/README.md.";

void check_command(const CLI::App& app, const std::string& word) {
  std::vector<std::string> names;
  for (const CLI::App* command : app.get_subcommands([](const CLI::App*) { return true; })) {
    names.push_back(command->get_name());
    if (names.back() == word) return;
  }
  throw kvstow::InputError("kvstow: unknown command '" + word +
                           "' (nearest: " + kvstow::nearest_name(word, names) + ")");
}

// Whatever it quotes of the user's.
std::string one_line(std::string message) {
  std::replace_if(
      message.begin(), message.end(), [](unsigned char c) { return c < ' ' || c == 0x7f; }, ' ');
  return message;
}

// Where a standard stream is closed, the next file opened would take its place, and what is printed
// would go into a row. Writing to what is opened here fails, as it would have.
void keep_standard_streams() {
  int fd = 0;
  while (fd >= 0 && fd <= STDERR_FILENO) fd = ::open("/dev/null", O_RDONLY);
  ::close(fd);
}

// A full disk is seen here at the latest.
void finish_output() {
  if (std::fflush(stdout) == 0 && std::ferror(stdout) == 0) return;
  throw std::system_error(errno, std::generic_category(), "standard output");
}

int run(int argc, char** argv) {
  using namespace kvstow;
  CLI::App app(kAbout, "kvstow");
  app.footer(kExamples);
  app.require_subcommand(1);
  app.set_version_flag("--version", [] {
    const BuildInfo& build = build_info();
    return "kvstow " + build.version + " (" + build.commit + ", " + build.type + ", " +
           build.compiler + ")";
  });
  int code = 0;

  RunArguments run_arguments;
  CLI::App* const run = app.add_subcommand("run", "Run experiments; finished points are skipped");
  run->add_option("FILE", run_arguments.files, "Experiment files, or names that `list` shows")
      ->required();
  run->add_option("--out", run_arguments.out, "Results directory")->capture_default_str();
  run->add_option("--jobs", run_arguments.jobs, "Threads; 0 means one for each hardware thread")
      ->check(CLI::Range(0, 4096))
      ->capture_default_str();
  run->add_option("--reduced", run_arguments.reduced,
                  "Below 1, a quick look and not a measurement: durations times this,\n"
                  "the first seed, no search");
  run->add_flag("--simulated", run_arguments.simulated,
                "Predict what executors cpu and cuda would measure: the same points, under the\n"
                "experiment's step law");
  run->footer(
      "Every point is written whole to OUT/rows/KEY.json, where KEY is a hash of its resolved\n"
      "config, its trace and this build. Killed runs resume; changed code never serves old rows.\n"
      "Results do not depend on --jobs.");
  run->callback([&] { code = run_command(run_arguments); });

  std::vector<std::string> files;
  CLI::App* const validate = app.add_subcommand("validate", "Check experiment files; run nothing");
  validate->add_option("FILE", files, "Experiment files or names")->required();
  validate->callback([&] { code = validate_command(files); });

  std::string file;
  CLI::App* const plan = app.add_subcommand(
      "plan", "Bytes per token, pool, slots, blocks, and how many requests fit under each system");
  plan->add_option("FILE", file, "Experiment file or name")->required();
  plan->footer("Requests are really admitted into a real allocator until it refuses.");
  plan->callback([&] { code = plan_command(file); });

  std::string kind;
  CLI::App* const list = app.add_subcommand("list", "Names that experiment files may use");
  list->add_option(
      "KIND", kind,
      "allocators, systems, models, devices, workloads or experiments; all by default");
  list->callback([&] { code = list_command(kind); });

  std::string directory;
  CLI::App* const report =
      app.add_subcommand("report", "Figures, tables and report.html of results");
  report->add_option("DIR", directory, "Results directory of `run`")->required();
  report->callback([&] { code = analysis_command("report.py", {directory}); });

  VerifyArguments verify_arguments;
  CLI::App* const identity =
      app.add_subcommand("verify", "Prove the memory managers: the same tokens under every system");
  identity->add_option("FILE", verify_arguments.file, "Experiment file or name")->required();
  identity->footer(
      "Serves the experiment's first trace for real (executor cpu or cuda; simulated: cpu) under\n"
      "every system, and compares each request's tokens with those of a reference that it names.\n"
      "Exit code 1 where one differs.");
  identity
      ->add_option("--level", verify_arguments.level,
                   "1: the same bits in the same steps; 2: the same bits always; 3: forced\n"
                   "tokens, logits within a tolerance, the same bits wherever they are moved.\n"
                   "By default 2, and 1 for executor cuda unless it is deterministic")
      ->check(CLI::Range(1, 3));
  identity->add_option("--record", verify_arguments.record,
                       "JSON file that keeps what was found, by system");
  identity->callback([&] { code = verify_command(verify_arguments); });

  LogitsArguments logits_arguments;
  CLI::App* const logits = app.add_subcommand(
      "logits", "Logits of given tokens, to compare a model with another implementation");
  logits->add_option("DIR", logits_arguments.model, "Hugging Face directory")->required();
  logits->add_option("--tokens", logits_arguments.tokens, "Token ids, a line for each sequence")
      ->required();
  logits->add_option("--out", logits_arguments.out, "Raw f32 [tokens, vocabulary]")->required();
  logits->add_option("--executor", logits_arguments.executor, "cuda or cpu")->capture_default_str();
  logits->add_option("--dtype", logits_arguments.dtype, "bf16, f16 or f32 (cpu: f32 only)")
      ->capture_default_str();
  logits
      ->add_option("--prompt", logits_arguments.prompt,
                   "Tokens of each sequence that are its prompt, the others being decoded one by\n"
                   "one; all by default")
      ->check(CLI::Range(1, 1 << 30));
  logits->add_option("--block-tokens", logits_arguments.block_tokens, "Block size of the pool")
      ->check(CLI::Range(1, 4096))
      ->capture_default_str();
  logits->footer("tests/cuda/hf/compare_logits.py makes tokens and weights, and compares.");
  logits->callback([&] { code = logits_command(logits_arguments); });

  CLI::App* const verify = app.add_subcommand(
      "verify-paper", "Fail (exit 1) where a reproduced number has left its tolerance");
  verify->add_option("DIR", directory, "Results directory of the paper suite")->required();
  verify->callback([&] { code = analysis_command("verify.py", {directory}); });

  if (argc > 1 && argv[1][0] != '-') check_command(app, argv[1]);
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    const bool asked = error.get_exit_code() == 0;  // --help, --version
    if (asked) return app.exit(error);
    std::fprintf(stderr, "kvstow: %s (kvstow --help shows examples)\n",
                 one_line(error.what()).c_str());
    return kBadInput;
  }
  return code;
}

}  // namespace

int main(int argc, char** argv) {
  keep_standard_streams();
  try {
    const int code = run(argc, argv);
    finish_output();
    return code;
  } catch (const kvstow::InputError& error) {
    std::fprintf(stderr, "%s\n", one_line(error.what()).c_str());
    return kBadInput;
  } catch (const std::system_error& error) {  // files, mostly
    std::fprintf(stderr, "kvstow: %s\n", one_line(error.what()).c_str());
    return kBadInput;
  } catch (const std::bad_alloc&) {
    std::fprintf(stderr, "kvstow: this machine has not enough memory\n");
    return kBadInput;
  } catch (const std::exception& error) {
    std::fprintf(stderr, "kvstow: internal error: %s\n", one_line(error.what()).c_str());
    return kBug;
  }
}
