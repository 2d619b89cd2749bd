// A point as JSON: the resolved config that a row records and a key is made of, and its labels.
#pragma once

#include <nlohmann/json_fwd.hpp>
#include <string>

#include "bench/experiment/point.h"

namespace kvstow {

// Every choice that can change a result, under names with units; keys sorted, so that equal configs
// have equal text.
[[nodiscard]] nlohmann::json config_json(const ResolvedPoint& point);

// What the figures plot by: system, rate, seed, panel, ...
[[nodiscard]] nlohmann::json labels_json(const ResolvedPoint& point);

// 16 hex digits: hash(experiment, labels, resolved config, content of the trace file, build).
[[nodiscard]] std::string point_key(const ResolvedPoint& point);

// "single", "parallel", "beam", or "mixed".
[[nodiscard]] std::string decoding_name(const WorkloadConfig& workload);

}  // namespace kvstow
