#include "core/exec/cuda/launch_marks.h"

#include "core/nvtx.h"
#include "kernels/cuda/cuda_check.h"

namespace kvstow {
namespace {

const nvtx::Name& name_of(LaunchClass kind) {
  static const auto names = [] {
    std::array<nvtx::Name, kLaunchClasses> all;
    for (std::size_t i = 0; i < kLaunchClasses; ++i) {
      all[i] = nvtx::kernels_domain().name(kLaunchClassNames[i]);
    }
    return all;
  }();
  return names[static_cast<std::size_t>(kind)];
}

}  // namespace

void LaunchMarks::begin(cudaStream_t stream) {
  stretches_.clear();
  recorded_ = 0;
  if (by_ == By::captured_events) record(stream);
}

void LaunchMarks::enter(LaunchClass kind, cudaStream_t stream) {
  if (!stretches_.empty() && stretches_.back() == kind) return;
  if (by_ == By::captured_events) {
    if (!stretches_.empty()) record(stream);
  } else {
    if (!stretches_.empty()) nvtx::kernels_domain().pop();
    nvtx::kernels_domain().push(name_of(kind), std::ssize(stretches_));
  }
  stretches_.push_back(kind);
}

// The last two events have nothing between them.
void LaunchMarks::end(cudaStream_t stream) {
  if (by_ == By::captured_events) {
    record(stream);
    record(stream);
  } else if (!stretches_.empty()) {
    nvtx::kernels_domain().pop();
  }
}

void LaunchMarks::record(cudaStream_t stream) {
  if (recorded_ == events_.size()) events_.emplace_back();
  KVSTOW_CUDA(cudaEventRecordWithFlags(events_[recorded_++], stream, cudaEventRecordExternal));
}

LaunchTimes LaunchMarks::times(const Event& from) const {
  LaunchTimes times;
  times.start = seconds_between(from, events_[0]);
  for (std::size_t i = 0; i < stretches_.size(); ++i) {
    const auto kind = static_cast<std::size_t>(stretches_[i]);
    times.of_class[kind] += seconds_between(events_[i], events_[i + 1]);
    ++times.stretches[kind];
  }
  times.mark = seconds_between(events_[stretches_.size()], events_[stretches_.size() + 1]);
  return times;
}

}  // namespace kvstow
