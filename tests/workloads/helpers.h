// Shared by the workload tests.
#pragma once

#include <unistd.h>

#include <atomic>
#include <cmath>
#include <filesystem>
#include <fstream>
#include <string>
#include <string_view>
#include <vector>

#include "core/check.h"
#include "workloads/workload.h"

namespace kvstow::test {

inline std::vector<Request> drain(TraceSource& source) {
  std::vector<Request> requests;
  while (auto request = source.next()) requests.push_back(std::move(*request));
  return requests;
}

inline std::vector<Request> trace_of(const WorkloadConfig& config, std::uint64_t seed = 1) {
  return drain(*make_workload(config, seed));
}

// `count` requests at zero, which is all that a test of lengths needs.
inline WorkloadConfig batch_of(LengthLaw lengths, std::int64_t count) {
  WorkloadConfig config;
  config.lengths = lengths;
  config.arrivals = ArrivalLaw::all_at_zero;
  config.max_requests = count;
  return config;
}

struct Moments {
  double mean = 0;
  double sd = 0;
};

inline Moments moments(const std::vector<double>& values) {
  double sum = 0, squares = 0;
  for (const double v : values) sum += v;
  const double mean = sum / static_cast<double>(values.size());
  for (const double v : values) squares += (v - mean) * (v - mean);
  return {mean, std::sqrt(squares / static_cast<double>(values.size() - 1))};
}

inline std::vector<double> gaps(const std::vector<Request>& requests) {
  std::vector<double> result;
  for (std::size_t i = 1; i < requests.size(); ++i) {
    result.push_back(requests[i].arrival - requests[i - 1].arrival);
  }
  return result;
}

// A file that lives as long as the test.
class TempFile {
 public:
  TempFile(std::string_view ending, std::string_view content)
      : path_(std::filesystem::temp_directory_path() /
              ("kvstow-workloads-" + std::to_string(getpid()) + "-" + std::to_string(next_++) +
               std::string(ending))) {
    std::ofstream(path_, std::ios::binary) << content;
  }
  ~TempFile() { std::filesystem::remove(path_); }
  TempFile(const TempFile&) = delete;
  TempFile& operator=(const TempFile&) = delete;

  [[nodiscard]] std::string path() const { return path_.string(); }

 private:
  static inline std::atomic<int> next_ = 0;
  std::filesystem::path path_;
};

}  // namespace kvstow::test
