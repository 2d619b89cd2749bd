// Result rows: one self-explaining JSON object per run (schema: bench/experiments/README.md).
#pragma once

#include <nlohmann/json_fwd.hpp>
#include <string>

#include "bench/experiment/run_point.h"

namespace kvstow {

// The whole row. Only its `timing` differs between two runs of one point on one build.
[[nodiscard]] nlohmann::json row_json(const ResolvedPoint& point, const std::string& key,
                                      const RunResult& result);

// The run's serving summary under the names of `vllm bench serve --save-result`.
[[nodiscard]] nlohmann::json serve_json(const ResolvedPoint& point, const RunResult& result);

// Columns of runs.csv, and one row's line; no line ends.
[[nodiscard]] std::string csv_header();
[[nodiscard]] std::string csv_line(const nlohmann::json& row);

// The mean normalised latency of a row, for searches: infinite where nothing finished.
[[nodiscard]] double latency_of(const nlohmann::json& row);

}  // namespace kvstow
