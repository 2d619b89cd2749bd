#include "bench/experiment/data_root.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstdlib>

#include "core/check.h"

namespace kvstow {
namespace fs = std::filesystem;

fs::path data_root() {
  const char* const home = std::getenv("KVSTOW_HOME");
  fs::path root = home != nullptr && *home != '\0' ? home : KVSTOW_SOURCE_DIR;
  if (!fs::is_directory(root / "bench" / "systems")) {
    throw InputError(
        fmt::format("{}: no bench/systems here; set KVSTOW_HOME to the folder of kvstow's sources",
                    root.string()));
  }
  return root;
}

std::vector<std::string> names_in(const std::string& folder) {
  std::vector<std::string> names;
  for (const auto& entry : fs::directory_iterator(data_root() / "bench" / folder)) {
    if (entry.path().extension() == ".yaml") names.push_back(entry.path().stem().string());
  }
  std::sort(names.begin(), names.end());
  return names;
}

std::string file_of(const std::string& folder, const std::string& name) {
  return (data_root() / "bench" / folder / (name + ".yaml")).string();
}

std::string find_data_file(const std::string& name, const std::string& beside) {
  if (fs::path(name).is_absolute()) return fs::is_regular_file(name) ? name : "";
  std::vector<fs::path> folders = {fs::path(beside).parent_path()};
  if (const char* traces = std::getenv("KVSTOW_TRACES")) folders.emplace_back(traces);
  const fs::path root = data_root();
  for (const fs::path& base : {root, root / ".."}) {
    folders.push_back(base / "traces");
    folders.push_back(base / "shared" / "traces");
  }
  for (const fs::path& folder : folders) {
    const fs::path file = folder / name;
    if (fs::is_regular_file(file)) return file.lexically_normal().string();
  }
  return "";
}

}  // namespace kvstow
