// Memory plans that nobody would make: any extent may be read, written and freed again and again.
#pragma once

#include "core/kv/mem_plan.h"
#include "core/rng.h"

namespace kvstow::kernels {

struct PlanSlots {
  std::int64_t device;
  std::int64_t host;
};

inline MemPlan random_plan(RandomStream& random, const PlanSlots& slots, int operations,
                           int longest = 6) {
  MemPlan plan;
  for (int i = 0; i < operations; ++i) {
    const Tokens length(1 + random.below(static_cast<std::uint32_t>(longest)));
    const auto slot = [&](std::int64_t count) {
      return Slot(random.below(static_cast<std::uint32_t>(count - length.count() + 1)));
    };
    const Slot device = slot(slots.device);
    const Slot host = slot(slots.host);
    switch (random.below(4)) {
      case 0:
        plan.swap_out(device, host, length);
        break;
      case 1:
        plan.swap_in(host, device, length);
        break;
      case 2:
        plan.free(Tier::device, device, length);
        break;
      default: {
        const Slot other = slot(slots.device);
        const Tokens gap = other < device ? device - other : other - device;
        if (gap >= length) plan.copy(device, other, length);
      }
    }
  }
  return plan;
}

}  // namespace kvstow::kernels
