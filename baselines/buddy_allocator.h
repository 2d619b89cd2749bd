// Orca's reservation as the PagedAttention paper evaluates it: an extent per sequence from a buddy
// arena whose largest chunk is max_sequence. With the length estimates max, pow2 and oracle (which
// belong to the engine) it is the paper's Orca (Max | Pow2 | Oracle).
#pragma once

#include <memory>

#include "core/kv/kv_allocator.h"

namespace kvstow {

// Name: "buddy". Throws InputError on a pool that makes no sense.
[[nodiscard]] std::unique_ptr<KvAllocator> make_buddy_allocator(const PoolConfig&);

}  // namespace kvstow
