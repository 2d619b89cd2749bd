#include "baselines/contiguous_allocator.h"

#include "baselines/contiguous_arena.h"
#include "baselines/extent_allocator.h"
#include "core/kv/whole_blocks.h"

namespace kvstow {

namespace {

std::unique_ptr<KvAllocator> make(std::string_view name, Fit fit, const PoolConfig& config) {
  const auto arena = [&](Tokens slots) {
    return make_contiguous_arena(fit, whole_blocks(slots, config.block_tokens));
  };
  return std::make_unique<ExtentAllocator>(name, config.block_tokens, arena(config.device_slots),
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
