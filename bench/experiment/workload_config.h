// The `workload:` part of an experiment.
#pragma once

#include <string>

#include "core/config/yaml_reader.h"
#include "workloads/workload.h"

namespace kvstow {

struct WorkloadSpec {
  WorkloadConfig config;
  std::string dataset;       // label: the length law's name unless the file gives another
  std::string missing_file;  // set where an `optional` file is not there: skip what needs it
};

[[nodiscard]] WorkloadSpec read_workload(const ConfigNode& node);

}  // namespace kvstow
