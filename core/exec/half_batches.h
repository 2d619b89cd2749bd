// Whether the rows of a decode step go through the layers in two halves at the same time.
#pragma once

#include <cstdint>
#include <string_view>

namespace kvstow {

enum class HalfBatches : std::uint8_t {
  never,
  when_faster,  // by the step's rows and positions, and what tuning measured
  always,       // wherever they can: for tests
};
inline constexpr std::string_view kHalfBatchesNames[] = {"never", "when-faster", "always"};

}  // namespace kvstow
