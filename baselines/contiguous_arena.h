// Contiguous placement over a real address range: free runs with boundary tags, merged at once with
// both neighbours. Two searches:
//   first fit  the lowest address that fits: a tree of maxima over the addresses, O(log blocks)
//   best fit   the smallest run that fits: a list per length under a bitmap tree, O(log64 blocks);
//              among equal lengths the one freed last
// Neither allocates memory after construction.
#pragma once

#include <memory>

#include "baselines/arena.h"

namespace kvstow {

enum class Fit : std::uint8_t { first, best };

[[nodiscard]] std::unique_ptr<Arena> make_contiguous_arena(Fit, std::int64_t blocks);

}  // namespace kvstow
