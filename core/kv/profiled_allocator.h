// Times every call that changes an allocator, as a stage of the host.
#pragma once

#include "core/kv/forwarding_allocator.h"
#include "core/metrics/host_profile.h"

namespace kvstow {

class ProfiledAllocator final : public ForwardingAllocator {
 public:
  // The profile outlives the allocator.
  ProfiledAllocator(std::unique_ptr<KvAllocator> inner, HostProfile& profile)
      : ForwardingAllocator(std::move(inner)), profile_(profile) {}

  AllocResult admit(const AdmitRequest& request, MemPlan& plan) override {
    const auto range = enter(HostStage::admit, request.prompt.count());
    return ForwardingAllocator::admit(request, plan);
  }
  AllocStatus grow(std::span<const SeqId> group, Tokens new_length, MemPlan& plan) override {
    const auto range = enter(HostStage::grow, new_length.count());
    return ForwardingAllocator::grow(group, new_length, plan);
  }
  AllocStatus reorder(std::span<const Fork> forks, MemPlan& plan) override {
    const auto range = enter(HostStage::reorder, std::ssize(forks));
    return ForwardingAllocator::reorder(forks, plan);
  }
  AllocStatus swap_out(std::span<const SeqId> group, MemPlan& plan) override {
    const auto range = enter(HostStage::swap_out, std::ssize(group));
    return ForwardingAllocator::swap_out(group, plan);
  }
  AllocStatus swap_in(std::span<const SeqId> group, Tokens keep_free, MemPlan& plan) override {
    const auto range = enter(HostStage::swap_in, std::ssize(group));
    return ForwardingAllocator::swap_in(group, keep_free, plan);
  }
  void release(SeqId id, MemPlan& plan) override {
    const auto range = enter(HostStage::release, 1);
    ForwardingAllocator::release(id, plan);
  }

 private:
  [[nodiscard]] HostProfile::Range enter(HostStage stage, std::int64_t payload) {
    return {&profile_, stage, payload};
  }

  HostProfile& profile_;
};

}  // namespace kvstow
