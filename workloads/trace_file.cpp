#include "workloads/trace_file.h"

#include <fmt/format.h>

#include <filesystem>

#include "core/check.h"

namespace kvstow {
namespace {

class FirstRows final : public TraceReader {
 public:
  FirstRows(std::unique_ptr<TraceReader> reader, std::int64_t rows)
      : reader_(std::move(reader)), rows_(rows) {}

  bool next(TraceRow& row) override { return read_++ < rows_ && reader_->next(row); }
  void rewind() override {
    reader_->rewind();
    read_ = 0;
  }
  std::string where() const override { return reader_->where(); }

 private:
  std::unique_ptr<TraceReader> reader_;
  std::int64_t rows_;
  std::int64_t read_ = 0;
};

FileFormat format_of(const WorkloadConfig& config) {
  if (config.file_format != FileFormat::automatic) return config.file_format;
  const std::string ending = std::filesystem::path(config.file).extension().string();
  if (ending == ".csv") return FileFormat::csv;
  if (ending == ".jsonl") return FileFormat::jsonl;
  if (ending == ".json") return FileFormat::sharegpt_json;
  throw InputError(fmt::format("{}: the ending '{}' names no trace format (.csv, .jsonl, .json)",
                               config.file, ending));
}

std::unique_ptr<TraceReader> open_format(const WorkloadConfig& config, TraceNeeds needs) {
  switch (format_of(config)) {
    case FileFormat::csv:
      return open_csv_trace(config.file, needs);
    case FileFormat::jsonl:
      return open_jsonl_trace(config.file);
    case FileFormat::sharegpt_json:
      if (needs.arrivals) {
        throw InputError(config.file + ": ShareGPT JSON has no arrivals (use arrivals: poisson)");
      }
      return open_sharegpt_json(config.file, config.chars_per_token);
    case FileFormat::automatic:
      break;
  }
  fail_check("a format", "automatic was resolved above");
}

}  // namespace

std::unique_ptr<TraceReader> open_trace(const WorkloadConfig& config, TraceNeeds needs) {
  std::error_code error;
  if (!std::filesystem::exists(config.file, error)) {
    throw InputError(config.file + ": no such trace file");
  }
  if (!std::filesystem::is_regular_file(config.file, error)) {
    throw InputError(config.file + ": not a file");
  }
  return open_format(config, needs);
}

std::unique_ptr<TraceReader> first_rows(std::unique_ptr<TraceReader> reader, std::int64_t rows) {
  return std::make_unique<FirstRows>(std::move(reader), rows);
}

TraceSurvey survey_trace(TraceReader& reader, const WorkloadConfig& config, TraceNeeds needs,
                         Tokens limit) {
  TraceSurvey survey;
  TraceRow row;
  Seconds previous = 0;
  reader.rewind();
  const auto wants_more = [&] { return config.file_rows == 0 || survey.kept < config.file_rows; };
  while (wants_more() && reader.next(row)) {
    if (needs.arrivals) {
      if (survey.rows > 0 && row.arrival < previous) {
        throw InputError(fmt::format("{}: arrival {} s is before the previous row's {} s",
                                     reader.where(), row.arrival, previous));
      }
      previous = row.arrival;
    }
    ++survey.rows;
    if (needs.lengths && row.prompt + row.output > limit) {
      if (config.over_limit == OverLimit::error) {
        throw InputError(reader.where() + ": " + over_limit_message(row, limit));
      }
      if (config.over_limit == OverLimit::drop) continue;
    }
    if (survey.kept++ == 0) survey.first_arrival = row.arrival;
    survey.last_arrival = row.arrival;
  }
  reader.rewind();
  if (survey.rows == 0) throw InputError(config.file + ": has no requests");
  if (survey.kept == 0) {
    throw InputError(
        fmt::format("{}: all {} requests exceed the limit of {} tokens and are dropped",
                    config.file, survey.rows, limit.count()));
  }
  return survey;
}

std::string over_limit_message(const TraceRow& row, Tokens limit) {
  return fmt::format(
      "prompt {} + output {} = {} tokens exceed the limit of {} (over_limit: drop or clip admits "
      "such traces)",
      row.prompt.count(), row.output.count(), (row.prompt + row.output).count(), limit.count());
}

}  // namespace kvstow
