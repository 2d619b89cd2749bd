// Where the files of names lie: systems, models, devices, experiments.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

namespace kvstow {

// $KVSTOW_HOME, else the source tree this program was built from. InputError where it is neither.
[[nodiscard]] std::filesystem::path data_root();

// Names (file stems, sorted) of bench/FOLDER/*.yaml: "systems", "models", "devices".
[[nodiscard]] std::vector<std::string> names_in(const std::string& folder);

// bench/FOLDER/NAME.yaml.
[[nodiscard]] std::string file_of(const std::string& folder, const std::string& name);

// A data file that an experiment names: absolute, beside the experiment, in $KVSTOW_TRACES, or in
// traces/ or shared/traces/ of the data root or of its parent. Empty where it is nowhere.
[[nodiscard]] std::string find_data_file(const std::string& name, const std::string& beside);

}  // namespace kvstow
