// Pools in a realistic state for the allocator benchmarks: filled to a given share by sequences of
// random lengths that came and went.
#pragma once

#include <vector>

#include "core/kv/kv_allocator.h"
#include "core/rng.h"

namespace kvstow {

inline constexpr Tokens kBlock{16};
inline constexpr Tokens kLongest{2048};

inline PoolConfig pool_of(std::int64_t blocks) {
  return {.device_slots = blocks * kBlock,
          .host_slots = Tokens(0),
          .block_tokens = kBlock,
          .max_sequence = kLongest};
}

// Single sequences with ids from `first` on. Each fills its reservation, so that extents and block
// tables hold the same.
class Residents {
 public:
  Residents(KvAllocator& allocator, SeqId::Rep first) : allocator_(allocator), next_(first) {}

  bool admit(Tokens expected) {
    const SeqId id(next_);
    plan_.clear();
    const AdmitRequest request{
        .group = std::span(&id, 1), .prompt = expected, .expected_total = expected};
    if (allocator_.admit(request, plan_).status != AllocStatus::ok) return false;
    ++next_;
    ids_.push_back(id);
    return true;
  }
  void release(std::size_t i) {
    plan_.clear();
    allocator_.release(ids_[i], plan_);
    ids_[i] = ids_.back();
    ids_.pop_back();
  }
  [[nodiscard]] std::size_t size() const { return ids_.size(); }

 private:
  KvAllocator& allocator_;
  SeqId::Rep next_;
  MemPlan plan_;
  std::vector<SeqId> ids_;
};

// Fills the pool as far as it goes with lengths of 1 to 128 blocks, topped up with single blocks,
// then lets random sequences leave until `percent` of the slots are held.
inline void fill_pool(KvAllocator& allocator, int percent, SeqId::Rep first_id) {
  RandomStream random(1, "fill");
  Residents residents(allocator, first_id);
  const auto length = [&] { return (1 + static_cast<std::int64_t>(random.below(128))) * kBlock; };
  while (residents.admit(length())) {
  }
  while (residents.admit(kBlock)) {
  }
  const auto held = [&] { return allocator.stats(Tier::device).held.count() * 100; };
  const std::int64_t target = allocator.stats(Tier::device).capacity.count() * percent;
  while (held() > target && residents.size() > 0) {
    residents.release(random.below(static_cast<std::uint32_t>(residents.size())));
  }
}

}  // namespace kvstow
