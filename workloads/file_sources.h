// A trace file as a source of lengths, of arrivals, or of both in one row.
#pragma once

#include <memory>

#include "core/rng.h"
#include "workloads/arrivals.h"
#include "workloads/length_laws.h"
#include "workloads/trace_file.h"

namespace kvstow {

// Maps recorded times to the run's: the first kept request arrives at 0, and gaps are stretched so
// that the kept requests come at `rate_per_s` (0: as recorded).
class TimeMap {
 public:
  // InputError where the trace has no rate to rescale (one request, or all at one time).
  TimeMap(const TraceSurvey& survey, double rate_per_s, const std::string& file);
  [[nodiscard]] Seconds operator()(Seconds recorded) const { return (recorded - origin_) * scale_; }

 private:
  Seconds origin_;
  double scale_ = 1;
};

// Rows with their own arrivals, in file order, once.
[[nodiscard]] std::unique_ptr<LengthSource> make_trace_rows(std::unique_ptr<TraceReader> reader,
                                                            TimeMap times);

// Lengths only: in file order, one row at a time, or (shuffle) all in memory and in a new random
// order each pass; repeated for ever where `repeat`.
[[nodiscard]] std::unique_ptr<LengthSource> make_file_lengths(std::unique_ptr<TraceReader> reader,
                                                              bool shuffle, bool repeat,
                                                              RandomStream random);

// Arrivals only, once.
[[nodiscard]] std::unique_ptr<ArrivalSource> make_file_arrivals(std::unique_ptr<TraceReader> reader,
                                                                TimeMap times);

}  // namespace kvstow
