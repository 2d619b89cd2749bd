// Synthetic arrivals. Gaps are drawn at unit rate and divided by the rate, so that one seed at two
// rates gives the same pattern, faster or slower.
#pragma once

#include <memory>
#include <optional>

#include "core/rng.h"
#include "workloads/workload.h"

namespace kvstow {

class ArrivalSource {
 public:
  virtual ~ArrivalSource() = default;
  // Seconds since the start of the run, non-decreasing; none where there are no more.
  [[nodiscard]] virtual std::optional<Seconds> next() = 0;
};

// poisson, gamma and all_at_zero; endless. Not for ArrivalLaw::trace.
[[nodiscard]] std::unique_ptr<ArrivalSource> make_arrival_law(const WorkloadConfig& config,
                                                              RandomStream random);

}  // namespace kvstow
