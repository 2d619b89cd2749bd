#include <fmt/format.h>

#include <algorithm>

#include "bench/experiment/data_root.h"
#include "bench/kvstow/commands.h"
#include "bench/registry/allocators.h"
#include "core/check.h"
#include "core/config/yaml_reader.h"
#include "core/text.h"
#include "workloads/workload.h"

namespace kvstow {
namespace {

const std::vector<std::string> kKinds = {"allocators", "systems",   "models",
                                         "devices",    "workloads", "experiments"};

void print_entry(std::string_view name, std::string_view what) {
  fmt::print("  {:<26}{}\n", name, what);
}

void list_files(const std::string& folder) {
  for (const std::string& name : names_in(folder)) {
    print_entry(name, "bench/" + folder + "/" + name + ".yaml");
  }
}

void list_kind(const std::string& kind) {
  fmt::print("{}\n", kind);
  if (kind == "allocators") {
    for (const AllocatorEntry& entry : allocator_registry()) print_entry(entry.name, entry.summary);
  } else if (kind == "workloads") {
    for (const std::string_view name : kLengthLawNames) print_entry(name, "lengths");
    for (const std::string_view name : kArrivalLawNames) print_entry(name, "arrivals");
    for (const std::string_view name : kScenarioNames) print_entry(name, "scenario");
  } else if (kind == "experiments") {
    for (const std::string& name : experiment_names()) {
      const ConfigMap map(ConfigNode::load_file(file_of("experiments", name)));
      print_entry(name, map.at("title").text());
    }
  } else {
    list_files(kind);
  }
}

}  // namespace

int list_command(const std::string& kind) {
  if (kind.empty()) {
    for (const std::string& each : kKinds) list_kind(each);
    return 0;
  }
  if (std::find(kKinds.begin(), kKinds.end(), kind) == kKinds.end()) {
    throw InputError(
        fmt::format("list: unknown kind '{}' (nearest: {})", kind, nearest_name(kind, kKinds)));
  }
  list_kind(kind);
  return 0;
}

}  // namespace kvstow
