#include "workloads/file_sources.h"

#include <utility>

#include "core/check.h"

namespace kvstow {
namespace {

class TraceRows final : public LengthSource {
 public:
  TraceRows(std::unique_ptr<TraceReader> reader, TimeMap times)
      : reader_(std::move(reader)), times_(times) {}

  bool next(TraceRow& row) override {
    if (!reader_->next(row)) return false;
    row.arrival = times_(row.arrival);
    return true;
  }

 private:
  std::unique_ptr<TraceReader> reader_;
  TimeMap times_;
};

class FileArrivals final : public ArrivalSource {
 public:
  FileArrivals(std::unique_ptr<TraceReader> reader, TimeMap times)
      : reader_(std::move(reader)), times_(times) {}

  std::optional<Seconds> next() override {
    if (!reader_->next(row_)) return std::nullopt;
    return times_(row_.arrival);
  }

 private:
  std::unique_ptr<TraceReader> reader_;
  TimeMap times_;
  TraceRow row_;
};

class FileOrderLengths final : public LengthSource {
 public:
  FileOrderLengths(std::unique_ptr<TraceReader> reader, bool repeat)
      : reader_(std::move(reader)), repeat_(repeat) {}

  bool next(TraceRow& row) override {
    if (reader_->next(row)) return true;
    if (!repeat_) return false;
    reader_->rewind();
    return reader_->next(row);
  }

 private:
  std::unique_ptr<TraceReader> reader_;
  bool repeat_;
};

class ShuffledLengths final : public LengthSource {
 public:
  ShuffledLengths(TraceReader& reader, bool repeat, RandomStream random)
      : repeat_(repeat), random_(random) {
    TraceRow row;
    while (reader.next(row)) rows_.push_back(row);
    shuffle();
  }

  bool next(TraceRow& row) override {
    if (next_ == rows_.size()) {
      if (!repeat_) return false;
      shuffle();
    }
    row = rows_[next_++];
    return true;
  }

 private:
  void shuffle() {  // Fisher-Yates
    for (std::size_t i = rows_.size(); i > 1; --i) {
      std::swap(rows_[i - 1], rows_[random_.below(static_cast<std::uint32_t>(i))]);
    }
    next_ = 0;
  }

  bool repeat_;
  RandomStream random_;
  std::vector<TraceRow> rows_;
  std::size_t next_ = 0;
};

}  // namespace

TimeMap::TimeMap(const TraceSurvey& survey, double rate_per_s, const std::string& file)
    : origin_(survey.first_arrival) {
  if (rate_per_s == 0) return;
  const double recorded = survey.rate_per_s();
  if (recorded == 0) {
    throw InputError(file + ": cannot be rescaled to rate_per_s: its arrivals span no time");
  }
  scale_ = recorded / rate_per_s;
}

std::unique_ptr<LengthSource> make_trace_rows(std::unique_ptr<TraceReader> reader, TimeMap times) {
  return std::make_unique<TraceRows>(std::move(reader), times);
}

std::unique_ptr<LengthSource> make_file_lengths(std::unique_ptr<TraceReader> reader, bool shuffle,
                                                bool repeat, RandomStream random) {
  if (shuffle) return std::make_unique<ShuffledLengths>(*reader, repeat, random);
  return std::make_unique<FileOrderLengths>(std::move(reader), repeat);
}

std::unique_ptr<ArrivalSource> make_file_arrivals(std::unique_ptr<TraceReader> reader,
                                                  TimeMap times) {
  return std::make_unique<FileArrivals>(std::move(reader), times);
}

}  // namespace kvstow
