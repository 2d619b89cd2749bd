#include "baselines/buddy_allocator.h"

#include "baselines/buddy_arena.h"
#include "baselines/extent_allocator.h"
#include "core/kv/whole_blocks.h"

namespace kvstow {

std::unique_ptr<KvAllocator> make_buddy_allocator(const PoolConfig& config) {
  const auto arena = [&](Tokens slots) {
    const std::int64_t blocks = whole_blocks(slots, config.block_tokens);
    if (config.max_sequence < Tokens(1)) throw InputError("max_sequence must be at least 1");
    return std::make_unique<BuddyArena>(
        blocks, ceil_div(config.max_sequence.count(), config.block_tokens.count()));
  };
  return std::make_unique<ExtentAllocator>("buddy", config.block_tokens, arena(config.device_slots),
                                           arena(config.host_slots));
}

}  // namespace kvstow
