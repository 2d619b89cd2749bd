// Static reservation in one run of slots (FasterTransformer; PagedAttention paper, section 3):
// extents over a real address range, first fit or best fit, merged at once.
#pragma once

#include <memory>

#include "core/kv/kv_allocator.h"

namespace kvstow {

// Names: "contiguous-first-fit", "contiguous-best-fit". Throw InputError on a pool that makes no
// sense.
[[nodiscard]] std::unique_ptr<KvAllocator> make_first_fit_allocator(const PoolConfig&);
[[nodiscard]] std::unique_ptr<KvAllocator> make_best_fit_allocator(const PoolConfig&);

}  // namespace kvstow
