// Where lengths come from: one row after the other, from a law or from a file.
#pragma once

#include <memory>

#include "core/rng.h"
#include "workloads/trace_row.h"
#include "workloads/workload.h"

namespace kvstow {

class LengthSource {
 public:
  virtual ~LengthSource() = default;
  // Overwrites `row` with the next lengths (>= 1 token each); false where there are no more.
  [[nodiscard]] virtual bool next(TraceRow& row) = 0;
};

// The synthetic laws and `fixed`; endless. Not for LengthLaw::file.
[[nodiscard]] std::unique_ptr<LengthSource> make_length_law(const WorkloadConfig& config,
                                                            RandomStream random);

}  // namespace kvstow
