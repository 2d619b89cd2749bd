// Seeded test data.
#pragma once

#include <vector>

#include "core/rng.h"

namespace kvstow {

inline std::vector<float> random_floats(std::size_t n, std::uint64_t seed, double scale = 1) {
  RandomStream stream(seed, "test data");
  std::vector<float> values(n);
  for (float& value : values) value = static_cast<float>(scale * stream.normal());
  return values;
}

}  // namespace kvstow
