// What makes a WorkloadConfig usable, apart from what is in its file.
#pragma once

#include "workloads/workload.h"

namespace kvstow {

// InputError "workload.KEY: what" for the first thing that is wrong; KEY as in an experiment file.
void check_workload(const WorkloadConfig& config);

// Tokens that the scenario puts before every drawn prompt.
[[nodiscard]] inline Tokens prefix_of(const WorkloadConfig& config) {
  return config.scenario == Scenario::shared_prefix ? config.prefix_tokens : Tokens(0);
}

}  // namespace kvstow
