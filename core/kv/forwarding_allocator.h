// Base of the decorators: an allocator that hands every call to another one.
#pragma once

#include <memory>
#include <utility>

#include "core/kv/kv_allocator.h"

namespace kvstow {

class ForwardingAllocator : public KvAllocator {
 public:
  explicit ForwardingAllocator(std::unique_ptr<KvAllocator> inner) : inner_(std::move(inner)) {}

  [[nodiscard]] bool fits_empty_pool(const AdmitRequest& request) const override {
    return inner_->fits_empty_pool(request);
  }
  AllocResult admit(const AdmitRequest& request, MemPlan& plan) override {
    return inner_->admit(request, plan);
  }
  AllocStatus grow(std::span<const SeqId> group, Tokens new_length, MemPlan& plan) override {
    return inner_->grow(group, new_length, plan);
  }
  AllocStatus reorder(std::span<const Fork> forks, MemPlan& plan) override {
    return inner_->reorder(forks, plan);
  }
  AllocStatus swap_out(std::span<const SeqId> group, MemPlan& plan) override {
    return inner_->swap_out(group, plan);
  }
  AllocStatus swap_in(std::span<const SeqId> group, Tokens keep_free, MemPlan& plan) override {
    return inner_->swap_in(group, keep_free, plan);
  }
  void release(SeqId id, MemPlan& plan) override { inner_->release(id, plan); }
  [[nodiscard]] KvView view(SeqId id) const override { return inner_->view(id); }
  [[nodiscard]] KvStats stats(Tier tier) const override { return inner_->stats(tier); }
  void check_invariants(CheckLevel level) const override { inner_->check_invariants(level); }
  [[nodiscard]] std::string_view name() const override { return inner_->name(); }

 private:
  std::unique_ptr<KvAllocator> inner_;
};

}  // namespace kvstow
