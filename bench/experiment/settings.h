// Everything an experiment can set for its points, as one table: a name, and what it does to a
// point. The same names serve the experiment, its panels and the axes of its sweeps; the innermost
// wins.
#pragma once

#include <map>
#include <memory>
#include <string>
#include <vector>

#include "bench/experiment/point.h"
#include "core/config/device_config.h"
#include "core/config/yaml_reader.h"

namespace kvstow {

using Settings = std::map<std::string, ConfigNode>;

// Names of all settings, `system` among them.
[[nodiscard]] const std::vector<std::string>& setting_names();

struct DraftPoint {
  ResolvedPoint point;
  std::string missing_file;  // an optional trace that is not there: leave this point out
};

// Files of names, each read once.
class Library {
 public:
  [[nodiscard]] const ModelConfig& model(const ConfigNode& name);
  [[nodiscard]] const SystemConfig& system(const ConfigNode& name);
  [[nodiscard]] const DeviceProfile& device(const ConfigNode& name);
  // Where the name comes from a file of ours and not from the user's.
  [[nodiscard]] const DeviceProfile& device(const std::string& name, const ConfigNode& where);

 private:
  std::map<std::string, ModelConfig> models_;
  std::map<std::string, SystemConfig> systems_;
  std::map<std::string, DeviceProfile> devices_;
};

// Applies the settings in the table's order and checks that they go together. InputError at the
// setting's own line, or at `where` for what a default brought in.
[[nodiscard]] DraftPoint draft_point(const Settings& settings, Library& library,
                                     const ConfigNode& where);

}  // namespace kvstow
