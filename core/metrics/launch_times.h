// What the device does in one step of decodes, by kind of kernel.
#pragma once

#include <array>
#include <cstdint>

#include "core/types.h"

namespace kvstow {

enum class LaunchClass : std::uint8_t {
  embedding,  // tokens fed back, looked up, rows gathered
  norm,
  linear,
  rotate,     // RoPE, norms of heads, K and V into their slots
  attention,  // with decode attention's plan
  activation,
  sampling,
};
inline constexpr std::size_t kLaunchClasses = static_cast<std::size_t>(LaunchClass::sampling) + 1;
inline constexpr std::array<const char*, kLaunchClasses> kLaunchClassNames = {
    "embedding", "norm", "linear", "rotate", "attention", "activation", "sampling"};

// Read from events between the classes. They cost something themselves: `mark` is what lies between
// two events with nothing between them, and every stretch of a class holds one such time.
struct LaunchTimes {
  Seconds copies = 0;  // the memory plan
  Seconds start = 0;   // from there to the first kernel: rows awaited, the graph begun
  std::array<Seconds, kLaunchClasses> of_class{};
  std::array<int, kLaunchClasses> stretches{};
  Seconds mark = 0;
};

}  // namespace kvstow
