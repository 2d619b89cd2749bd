#include "bench/kvstow/verify_record.h"

#include <fmt/chrono.h>
#include <fmt/format.h>

#include <chrono>
#include <fstream>

#include "bench/experiment/build_info.h"
#include "bench/experiment/cuda_point.h"
#include "core/check.h"

namespace kvstow {

using nlohmann::json;

VerifyRecord::VerifyRecord(std::string file) : file_(std::move(file)) {
  if (file_.empty()) return;
  if (!std::ofstream(file_, std::ios::app)) throw InputError(file_ + ": cannot be written");
}

void VerifyRecord::add(const ResolvedPoint& point, int level, std::size_t requests,
                       const ArmVerdict& verdict, double wall_s) {
  if (file_.empty()) return;
  const BuildInfo& build = build_info();
  const std::time_t now = std::chrono::system_clock::to_time_t(std::chrono::system_clock::now());
  arms_.push_back({{"experiment", point.labels.experiment},
                   {"level", level},
                   {"model", point.model.name},
                   {"dtype", point.model.dtype},
                   {"executor", point.executor},
                   {"device", point.executor == "cuda" ? cuda_device() : ""},
                   {"seed", point.seed},
                   {"requests", requests},
                   {"pool_bytes", point.pool.count()},
                   {"setting", verdict.name},
                   {"ok", verdict.ok()},
                   {"compared", verdict.compared},
                   {"rejected", verdict.rejected},
                   {"different", verdict.different},
                   {"tokens", verdict.tokens.count()},
                   {"preemptions", verdict.preemptions},
                   {"recomputed_tokens", verdict.recomputed.count()},
                   {"swapped_tokens", verdict.swapped.count()},
                   {"copied_tokens", verdict.copied.count()},
                   {"error", verdict.error},
                   {"commit", build.commit},
                   {"sources", build.sources},
                   {"build", build.type},
                   {"date", fmt::format("{:%Y-%m-%dT%H:%M:%SZ}", fmt::gmtime(now))},
                   {"wall_s", wall_s}});
  if (const auto& logits = verdict.logits) {
    arms_.back()["logits"] = {{"rows", logits->rows},
                              {"largest", logits->largest},
                              {"beyond", logits->beyond},
                              {"tolerance", logits->tolerance}};
  }
  std::ofstream out(file_);
  out << "{\"verify\": [\n";
  for (std::size_t i = 0; i < arms_.size(); ++i) {
    out << "  " << arms_[i].dump() << (i + 1 < arms_.size() ? ",\n" : "\n");
  }
  out << "]}\n";
  if (!out.flush()) throw InputError(file_ + ": cannot be written");
}

}  // namespace kvstow
