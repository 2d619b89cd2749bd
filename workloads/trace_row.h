// What the parts of a workload hand to each other: one request before it has an id.
#pragma once

#include <cstdint>
#include <vector>

#include "core/types.h"

namespace kvstow {

// Of a prompt or an output in a file: what is more is a mistake, and sums of a few stay in range.
inline constexpr std::int64_t kMostTokens = std::int64_t{1} << 31;

struct TraceRow {
  Seconds arrival = 0;  // only where the row comes from a file that has times
  Tokens prompt{0};
  Tokens output{0};
  std::uint32_t session = 0;                // conversation, 0 = none
  std::vector<std::uint64_t> block_hashes;  // content keys of prompt blocks, where known
};

}  // namespace kvstow
