// Where rows of given lengths lie, under either map: what tests and benchmarks of attention start
// from.
#pragma once

#include <span>
#include <vector>

#include "tests/cuda/device_case.h"

namespace kvstow::kernels::cuda::testing {

// 0 .. count - 1 in an order that depends on the seed only.
std::vector<std::int32_t> shuffled(std::int64_t count, std::uint64_t seed);

class Placement {
 public:
  enum class Gaps {
    none,   // as close as blocks allow
    edges,  // spare blocks and slots around every row, ids of -1 past its end: an access over an
            // edge does not hit another row
  };

  // Blocks in random order, and extents one after the other.
  Placement(std::span<const std::int32_t> lengths, int block_tokens, std::uint64_t seed, Gaps gaps);

  [[nodiscard]] BlockTableMap table() const { return {ids_.get(), stride_, block_tokens_}; }
  [[nodiscard]] AffineMap affine() const { return {firsts_.get()}; }
  [[nodiscard]] const std::int32_t* length() const { return lengths_.get(); }  // on the device
  [[nodiscard]] int rows() const { return static_cast<int>(lengths_.size()); }
  [[nodiscard]] int longest() const { return longest_; }
  [[nodiscard]] std::int64_t slots() const { return slots_; }  // that a pool needs for either map

 private:
  int block_tokens_;
  int longest_ = 0;
  std::int64_t stride_ = 0;
  std::int64_t slots_ = 0;
  DeviceArray<std::int32_t> ids_;
  DeviceArray<std::int64_t> firsts_;
  DeviceArray<std::int32_t> lengths_;
};

// The same random K and V under each map, in a pool of its own that is NaN wherever no token lies.
class PoisonedPools {
 public:
  PoisonedPools() = default;
  PoisonedPools(const KvLayout& layout, const Placement& placement, std::uint64_t seed);

  [[nodiscard]] KvPool of(const BlockTableMap&) const { return {table_.get(), layout_}; }
  [[nodiscard]] KvPool of(const AffineMap&) const { return {affine_.get(), layout_}; }

 private:
  KvLayout layout_{};
  DeviceArray<std::uint16_t> table_;
  DeviceArray<std::uint16_t> affine_;
};

}  // namespace kvstow::kernels::cuda::testing
