#include "baselines/contiguous_allocator.h"

#include "baselines/contiguous_arena.h"
#include "baselines/extent_allocator.h"
#include "core/kv/block_size.h"

namespace kvstow {
namespace {

std::unique_ptr<KvAllocator> make(std::string_view name, Fit fit, const PoolConfig& config) {
  const BlockSize block(config.block_tokens);
  const auto arena = [&](Tokens slots) {
    return make_contiguous_arena(fit, block.whole_blocks(slots));
  };
  return std::make_unique<ExtentAllocator>(name, block, arena(config.device_slots),
                                           arena(config.host_slots));
}

}  // namespace

std::unique_ptr<KvAllocator> make_first_fit_allocator(const PoolConfig& config) {
  return make("contiguous-first-fit", Fit::first, config);
}

std::unique_ptr<KvAllocator> make_best_fit_allocator(const PoolConfig& config) {
  return make("contiguous-best-fit", Fit::best, config);
}

}  // namespace kvstow
