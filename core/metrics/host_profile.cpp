#include "core/metrics/host_profile.h"

#include <chrono>

#include "core/nvtx.h"

namespace kvstow {
namespace {

Seconds now() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

struct StageRange {
  const nvtx::Domain& domain;
  nvtx::Name name;
};

const StageRange& range_of(HostStage stage) {
  const auto of = [](const nvtx::Domain& domain, const char* name) {
    return StageRange{domain, domain.name(name)};
  };
  static const std::array<StageRange, kHostStages> ranges = {
      of(nvtx::engine_domain(), "engine"),      of(nvtx::engine_domain(), "schedule"),
      of(nvtx::engine_domain(), "submit"),      of(nvtx::engine_domain(), "wait"),
      of(nvtx::engine_domain(), "settle"),      of(nvtx::allocator_domain(), "admit"),
      of(nvtx::allocator_domain(), "grow"),     of(nvtx::allocator_domain(), "reorder"),
      of(nvtx::allocator_domain(), "swap out"), of(nvtx::allocator_domain(), "swap in"),
      of(nvtx::allocator_domain(), "release"),  of(nvtx::kernels_domain(), "plan"),
      of(nvtx::kernels_domain(), "upload"),     of(nvtx::kernels_domain(), "launch graph"),
      of(nvtx::kernels_domain(), "forward"),
  };
  return ranges[static_cast<std::size_t>(stage)];
}

}  // namespace

HostProfile::HostProfile() : since_(now()) {}

void HostProfile::account() {
  const Seconds at = now();
  if (!steps_.empty()) steps_.back()[static_cast<std::size_t>(stage_)] += at - since_;
  since_ = at;
}

void HostProfile::begin_step() {
  account();
  steps_.emplace_back();
}

HostStage HostProfile::enter(HostStage stage, std::int64_t payload) {
  account();
  const HostStage outer = stage_;
  stage_ = stage;
  const StageRange& range = range_of(stage);
  range.domain.push(range.name, payload);
  return outer;
}

void HostProfile::leave(HostStage outer) {
  range_of(stage_).domain.pop();
  account();
  stage_ = outer;
}

std::vector<HostStep> HostProfile::take() {
  account();
  return std::move(steps_);
}

}  // namespace kvstow
