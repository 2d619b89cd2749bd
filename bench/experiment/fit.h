// How many requests a system holds at once, found by really admitting them into a real allocator.
#pragma once

#include "bench/experiment/point.h"

namespace kvstow {

struct FitCount {
  std::int64_t admitted = 0;     // of the workload's first requests, until one is refused
  std::int64_t full_length = 0;  // the same with every request grown to its true length first
  Bytes metadata{0};             // tables and lists of the allocator, when full
};

// REQUIRES point.kind == PointKind::serve.
[[nodiscard]] FitCount count_fitting(const ResolvedPoint& point);

}  // namespace kvstow
