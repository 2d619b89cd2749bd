// Text for people: the nearest of several names, and numbers with their units.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>

namespace kvstow {

// The candidate a user most likely meant; empty only where there are no candidates. Edit distance
// relative to length, with credit for shared leading words, so that `rate` finds `rate_per_s` and
// `pool_gb` finds `pool_bytes`.
[[nodiscard]] std::string nearest_name(std::string_view name,
                                       std::span<const std::string> candidates);

// "1.5 GiB", "819,200 B": binary prefixes from 1 MiB up, exact bytes below.
[[nodiscard]] std::string format_bytes(std::int64_t bytes);

// "12,884,377,600".
[[nodiscard]] std::string format_count(std::int64_t count);

// "850 ms", "12.3 s", "2 min 05 s".
[[nodiscard]] std::string format_seconds(double seconds);

}  // namespace kvstow
