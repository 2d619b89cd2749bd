// The subcommands of `kvstow`. Each returns an exit code; bad input is thrown as InputError.
#pragma once

#include <string>
#include <vector>

namespace kvstow {

struct RunArguments {
  std::vector<std::string> files;
  std::string out = "out";
  int jobs = 0;            // 0: one for each hardware thread
  double reduced = 1;      // below 1: a quick look (ReadOptions::reduced)
  bool simulated = false;  // ReadOptions::simulated
};

struct VerifyArguments {
  std::string file;
  int level = 0;       // 1 to 3; 0: the strictest that the experiment's executor promises
  std::string record;  // a JSON file for what was found; empty: none
};

struct LogitsArguments {
  std::string model;  // a Hugging Face directory
  std::string tokens;
  std::string out;
  std::string executor = "cuda";
  std::string dtype = "bf16";
  int prompt = 1 << 30;  // tokens of each sequence that are its prompt; the others are decoded
  int block_tokens = 16;
};

int run_command(const RunArguments& arguments);
int validate_command(const std::vector<std::string>& files);
int plan_command(const std::string& file);
int verify_command(const VerifyArguments& arguments);
int list_command(const std::string& kind);
int logits_command(const LogitsArguments& arguments);

// Becomes `python3 analysis/SCRIPT ARGUMENTS`; $KVSTOW_PYTHON names another python.
int analysis_command(const std::string& script, const std::vector<std::string>& arguments);

// The file that a user's argument means: a path, or the name of an experiment of ours ("smoke",
// "paper/fig12").
[[nodiscard]] std::string experiment_file(const std::string& argument);

// Names of the experiments that come with kvstow.
[[nodiscard]] std::vector<std::string> experiment_names();

}  // namespace kvstow
