// Fails on demand, for tests of whatever stands above an allocator. A failed call never reaches the
// allocator inside, so it changes nothing.
#pragma once

#include <cstdint>

#include "core/kv/forwarding_allocator.h"

namespace kvstow {

class FailingAllocator final : public ForwardingAllocator {
 public:
  using ForwardingAllocator::ForwardingAllocator;

  // After `skip` more calls that may fail (admit, grow, reorder, swap_out, swap_in), the next
  // `count` of them return `status`.
  void fail(std::int64_t skip, std::int64_t count, AllocStatus status) {
    skip_ = skip;
    count_ = count;
    status_ = status;
  }
  [[nodiscard]] std::int64_t failures() const { return failures_; }

  AllocResult admit(const AdmitRequest& request, MemPlan& plan) override {
    return fails() ? AllocResult{status_} : ForwardingAllocator::admit(request, plan);
  }
  AllocStatus grow(std::span<const SeqId> group, Tokens new_length, MemPlan& plan) override {
    return fails() ? status_ : ForwardingAllocator::grow(group, new_length, plan);
  }
  AllocStatus reorder(std::span<const Fork> forks, MemPlan& plan) override {
    return fails() ? status_ : ForwardingAllocator::reorder(forks, plan);
  }
  AllocStatus swap_out(std::span<const SeqId> group, MemPlan& plan) override {
    return fails() ? status_ : ForwardingAllocator::swap_out(group, plan);
  }
  AllocStatus swap_in(std::span<const SeqId> group, Tokens keep_free, MemPlan& plan) override {
    return fails() ? status_ : ForwardingAllocator::swap_in(group, keep_free, plan);
  }

 private:
  bool fails() {
    if (skip_ > 0) return --skip_, false;
    if (count_ == 0) return false;
    --count_;
    ++failures_;
    return true;
  }

  std::int64_t skip_ = 0;
  std::int64_t count_ = 0;
  std::int64_t failures_ = 0;
  AllocStatus status_ = AllocStatus::no_memory;
};

}  // namespace kvstow
