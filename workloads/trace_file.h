// Trace files, read a row at a time. Every malformed row is an InputError "file:line: what".
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

#include "workloads/trace_row.h"
#include "workloads/workload.h"

namespace kvstow {

class TraceReader {
 public:
  virtual ~TraceReader() = default;
  // Overwrites `row` with the next row; false at the end of the file.
  [[nodiscard]] virtual bool next(TraceRow& row) = 0;
  // Starts again at the first row.
  virtual void rewind() = 0;
  // "file:line" of the row that next() gave last.
  [[nodiscard]] virtual std::string where() const = 0;
};

// What a file must give; what is not needed may be missing from it.
struct TraceNeeds {
  bool arrivals = false;
  bool lengths = false;
};

// All rows of `config.file` in `config.file_format`.
[[nodiscard]] std::unique_ptr<TraceReader> open_trace(const WorkloadConfig& config,
                                                      TraceNeeds needs);

// One reader per format, for open_trace.
[[nodiscard]] std::unique_ptr<TraceReader> open_csv_trace(const std::string& path,
                                                          TraceNeeds needs);
[[nodiscard]] std::unique_ptr<TraceReader> open_jsonl_trace(const std::string& path);
[[nodiscard]] std::unique_ptr<TraceReader> open_sharegpt_json(const std::string& path,
                                                              double chars_per_token);

// The first `rows` rows of a reader.
[[nodiscard]] std::unique_ptr<TraceReader> first_rows(std::unique_ptr<TraceReader> reader,
                                                      std::int64_t rows);

// What the first pass over a trace finds.
struct TraceSurvey {
  std::int64_t rows = 0;      // read, the dropped included
  std::int64_t kept = 0;      // rows that over_limit leaves in
  Seconds first_arrival = 0;  // of the kept rows
  Seconds last_arrival = 0;

  // Requests per second between the first and the last kept arrival; 0 where that is undefined.
  [[nodiscard]] double rate_per_s() const {
    const Seconds span = last_arrival - first_arrival;
    return span > 0 ? static_cast<double>(kept - 1) / span : 0;
  }
};

// Reads `reader` to its end, or until config.file_rows rows are kept, and checks what it read: rows
// well-formed, at least one kept, arrivals (where needed) never backwards, lengths (where needed)
// within `limit` under over_limit error.
[[nodiscard]] TraceSurvey survey_trace(TraceReader& reader, const WorkloadConfig& config,
                                       TraceNeeds needs, Tokens limit);

// "prompt 3000 + output 211 = 3211 tokens exceed ..."
[[nodiscard]] std::string over_limit_message(const TraceRow& row, Tokens limit);

}  // namespace kvstow
