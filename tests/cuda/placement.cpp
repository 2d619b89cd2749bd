#include "tests/cuda/placement.h"

#include <algorithm>
#include <numeric>

#include "core/rng.h"

namespace kvstow::kernels::cuda::testing {

std::vector<std::int32_t> shuffled(std::int64_t count, std::uint64_t seed) {
  std::vector<std::int32_t> order(static_cast<std::size_t>(count));
  std::iota(order.begin(), order.end(), 0);
  RandomStream random(seed, "order");
  for (std::size_t i = order.size(); i > 1; --i) {
    std::swap(order[i - 1], order[random.below(static_cast<std::uint32_t>(i))]);
  }
  return order;
}

Placement::Placement(std::span<const std::int32_t> lengths, int block_tokens, std::uint64_t seed,
                     Gaps gaps)
    : block_tokens_(block_tokens), lengths_(lengths) {
  const bool edges = gaps == Gaps::edges;
  std::int64_t blocks = edges ? 3 : 0;
  for (const std::int32_t l : lengths) {
    blocks += ceil_div(l, block_tokens);
    longest_ = std::max(longest_, static_cast<int>(l));
  }
  stride_ = ceil_div(longest_, block_tokens) + (edges ? 2 : 0);
  const std::vector<std::int32_t> order = shuffled(blocks, seed);
  std::vector<std::int32_t> ids(lengths.size() * static_cast<std::size_t>(stride_), -1);
  std::vector<std::int64_t> firsts;
  std::int64_t next_slot = edges ? 5 : 0;
  auto next_block = order.begin();
  for (std::size_t r = 0; r < lengths.size(); ++r) {
    const std::int64_t n = ceil_div(lengths[r], block_tokens);
    std::copy_n(next_block, n, ids.begin() + static_cast<std::int64_t>(r) * stride_);
    next_block += n;
    firsts.push_back(next_slot);
    next_slot += edges ? lengths[r] + 1 : n * block_tokens;
  }
  slots_ = std::max(blocks * block_tokens, next_slot + (edges ? 1 : 0));
  ids_ = DeviceArray<std::int32_t>(ids);
  firsts_ = DeviceArray<std::int64_t>(firsts);
}

PoisonedPools::PoisonedPools(const KvLayout& layout, const Placement& placement, std::uint64_t seed)
    : layout_(layout) {
  for (auto* pool : {&table_, &affine_}) {
    *pool = DeviceArray<std::uint16_t>(static_cast<std::size_t>(layout.elements()));
    pool->fill_bytes(0xff);  // NaN in both dtypes
  }
  fill_kv(of(placement.table()), placement.table(), placement.length(), placement.rows(), seed,
          nullptr);
  fill_kv(of(placement.affine()), placement.affine(), placement.length(), placement.rows(), seed,
          nullptr);
}

}  // namespace kvstow::kernels::cuda::testing
