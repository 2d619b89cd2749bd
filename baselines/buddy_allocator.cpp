#include "baselines/buddy_allocator.h"

#include "baselines/buddy_arena.h"
#include "baselines/extent_allocator.h"
#include "core/kv/block_size.h"

namespace kvstow {

std::unique_ptr<KvAllocator> make_buddy_allocator(const PoolConfig& config) {
  const BlockSize block(config.block_tokens);
  if (config.max_sequence < Tokens(1)) throw InputError("max_sequence must be at least 1");
  const auto arena = [&](Tokens slots) {
    return std::make_unique<BuddyArena>(block.whole_blocks(slots),
                                        block.blocks_for(config.max_sequence.count()));
  };
  return std::make_unique<ExtentAllocator>("buddy", block, arena(config.device_slots),
                                           arena(config.host_slots));
}

}  // namespace kvstow
