// A results directory:
//   rows/KEY.json    one run each; written under another name and renamed, so whole or absent
//   serve/KEY.json   its serving summary, under the names of `vllm bench serve`
//   records/KEY.requests.csv, KEY.steps.csv   where a point asks for them
//   runs.csv         one line per run, in the experiments' order
//   manifest.json    which experiment produced which runs, with which build
//   superseded/      rows of earlier builds or earlier forms of an experiment
#pragma once

#include <filesystem>
#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <string>
#include <vector>

#include "bench/experiment/record_log.h"
#include "bench/experiment/results_folder.h"

namespace kvstow {

class Store {
 public:
  // Creates the directory, keeps other runs out of it and clears what a killed run left unfinished.
  // InputError where it cannot, and where a manifest.json or runs.csv is there that is not ours.
  explicit Store(const std::filesystem::path& directory);

  // nullopt where the row is absent or is not the one of this key. Safe from many threads for
  // different keys.
  [[nodiscard]] std::optional<nlohmann::json> load(const std::string& key) const;
  void save_records(const std::string& key, const Records& records) const;
  void save(const std::string& key, const nlohmann::json& row, const nlohmann::json& serve) const;

  // Records that `experiment` consists of these rows, moves its other rows to superseded/, and
  // writes manifest.json and runs.csv anew. Returns how many rows were moved.
  std::size_t record(const std::string& experiment, const std::string& file,
                     const std::vector<std::string>& keys) const;

 private:
  void write_atomically(const std::filesystem::path& path, const std::string& text) const;
  void write_tables(const nlohmann::json& manifest) const;
  [[nodiscard]] std::filesystem::path row_path(const std::string& key) const;

  std::filesystem::path directory_;
  ResultsFolder folder_;
};

}  // namespace kvstow
