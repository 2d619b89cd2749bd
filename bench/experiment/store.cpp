#include "bench/experiment/store.h"

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <fstream>
#include <nlohmann/json.hpp>
#include <set>

#include "bench/experiment/build_info.h"
#include "bench/experiment/row.h"
#include "core/check.h"

namespace kvstow {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;

constexpr const char* kUnfinished = ".unfinished";

std::optional<json> read_json(const fs::path& path) {
  std::ifstream in(path);
  if (!in) return std::nullopt;
  json value = json::parse(in, nullptr, /*allow_exceptions=*/false);
  if (!value.is_object()) return std::nullopt;  // broken, or not ours
  return value;
}

// "" where there is no such text.
std::string text_of(const json& row, const char* name) {
  const auto found = row.find(name);
  return found != row.end() && found->is_string() ? found->get<std::string>() : "";
}

bool is_experiment(const json& entry) {
  if (!entry.is_object() || !entry.contains("runs") || !entry["runs"].is_array()) return false;
  return std::ranges::all_of(entry["runs"], [](const json& key) { return key.is_string(); });
}

bool is_manifest(const json& value) {
  const auto experiments = value.find("experiments");
  return experiments != value.end() && experiments->is_object() &&
         std::ranges::all_of(*experiments, is_experiment);
}

// Both are written anew at a run's end: before it begins they have to be a run's.
void require_own_tables(const fs::path& directory) {
  const auto refuse = [](const fs::path& path) {
    throw InputError(
        fmt::format("{}: not of `kvstow run`: give another folder for results", path.string()));
  };
  const fs::path manifest = directory / "manifest.json";
  if (fs::exists(manifest)) {
    const auto value = read_json(manifest);
    if (!value || !is_manifest(*value)) refuse(manifest);
    return;
  }
  std::ifstream runs(directory / "runs.csv");  // alone where a run was killed between the two
  std::string header;
  if (std::getline(runs, header) && header != csv_header()) refuse(directory / "runs.csv");
}

}  // namespace

Store::Store(const fs::path& directory)
    : directory_(directory), folder_(directory, {"rows", "serve", "records"}) {
  require_own_tables(directory);
  for (const char* folder : {"rows", "serve", "records"}) {
    for (const auto& entry : fs::directory_iterator(directory_ / folder)) {
      if (entry.path().extension() == kUnfinished) fs::remove(entry.path());
    }
  }
}

fs::path Store::row_path(const std::string& key) const {
  return directory_ / "rows" / (key + ".json");
}

std::optional<json> Store::load(const std::string& key) const {
  auto row = read_json(row_path(key));
  if (row && (text_of(*row, "key") != key || !row->contains("metrics"))) row.reset();
  return row;
}

void Store::save_records(const std::string& key, const Records& records) const {
  write_atomically(directory_ / "records" / (key + ".requests.csv"), records.requests);
  write_atomically(directory_ / "records" / (key + ".steps.csv"), records.steps);
}

void Store::save(const std::string& key, const json& row, const json& serve) const {
  write_atomically(directory_ / "serve" / (key + ".json"), serve.dump(1) + "\n");
  write_atomically(row_path(key), row.dump(1) + "\n");  // last: its presence says the run is done
}

void Store::write_atomically(const fs::path& path, const std::string& text) const {
  const fs::path temporary = fmt::format("{}.{}{}", path.string(), ::getpid(), kUnfinished);
  {
    std::ofstream out(temporary, std::ios::binary);
    out << text;
    out.flush();
    if (!out) {
      const std::string reason = std::generic_category().message(errno);
      fs::remove(temporary);
      throw InputError(fmt::format("{}: cannot write here: {}", path.string(), reason));
    }
  }
  fs::rename(temporary, path);
}

std::size_t Store::record(const std::string& experiment, const std::string& file,
                          const std::vector<std::string>& keys) const {
  const std::set<std::string> wanted(keys.begin(), keys.end());
  std::size_t moved = 0;
  for (const auto& entry : fs::directory_iterator(directory_ / "rows")) {
    const std::string key = entry.path().stem().string();
    if (wanted.count(key)) continue;
    const auto row = read_json(entry.path());
    if (!row || text_of(*row, "experiment") != experiment) continue;
    fs::create_directories(directory_ / "superseded");
    fs::rename(entry.path(), directory_ / "superseded" / entry.path().filename());
    for (const char* kind : {".requests.csv", ".steps.csv"}) {
      fs::remove(directory_ / "records" / (entry.path().stem().string() + kind));
    }
    fs::remove(directory_ / "serve" / entry.path().filename());
    ++moved;
  }

  const BuildInfo& build = build_info();
  json manifest = read_json(directory_ / "manifest.json").value_or(json::object());
  manifest["schema"] = 1;
  manifest["experiments"][experiment] = {{"file", fs::path(file).filename().string()},
                                         {"runs", keys},
                                         {"build",
                                          {{"version", build.version},
                                           {"commit", build.commit},
                                           {"sources", build.sources},
                                           {"type", build.type},
                                           {"compiler", build.compiler}}}};
  write_tables(manifest);
  return moved;
}

void Store::write_tables(const json& manifest) const {
  std::string csv = csv_header() + "\n";
  for (const auto& [name, experiment] : manifest.at("experiments").items()) {
    for (const json& key : experiment.at("runs")) {
      if (const auto row = load(key.get<std::string>())) csv += csv_line(*row) + "\n";
    }
  }
  write_atomically(directory_ / "runs.csv", csv);
  // A file's name need not be UTF-8.
  const auto replace = json::error_handler_t::replace;
  write_atomically(directory_ / "manifest.json", manifest.dump(1, ' ', false, replace) + "\n");
}

}  // namespace kvstow
