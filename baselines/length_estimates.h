// The output lengths a reserving system may assume (PagedAttention paper, section 6.1, "Baseline
// 2").
#pragma once

#include <bit>

#include "core/engine/length_estimate.h"

namespace kvstow {

// Orca (Max): the longest the model allows.
[[nodiscard]] inline Tokens estimate_max(const Request&, Tokens max_model_len) {
  return max_model_len;
}

// Orca (Pow2): at most twice the true output: the next power of two that holds it.
[[nodiscard]] inline Tokens estimate_pow2(const Request& request, Tokens) {
  const auto output = static_cast<std::uint64_t>(request.output.count());
  return Tokens(static_cast<std::int64_t>(std::bit_ceil(output)));
}

// Orca (Oracle): the true output, known in advance. Also what a paged allocator is told, which uses
// it for nothing but to recognise a request that can never fit.
[[nodiscard]] inline Tokens estimate_oracle(const Request& request, Tokens) {
  return request.output;
}

}  // namespace kvstow
