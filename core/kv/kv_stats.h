// What an allocator says about one tier, in slots. One list that must add up.
#pragma once

#include "core/types.h"

namespace kvstow {

struct KvStats {
  Tokens capacity{0};  // physical slots of the tier
  Tokens held{0};  // set aside for some sequence, filled or not; counted once however many share it
  Tokens live{0};  // distinct filled slots; live <= held
  Tokens logical{0};     // sum of the lengths of all sequences; logical - live = shared savings
  Tokens cached{0};      // no holder, content kept
  Tokens in_transit{0};  // freed, its copy not drained yet
  Bytes metadata{0};     // tables, lists, counters; beside the tier, never taken out of it

  [[nodiscard]] Tokens free() const { return capacity - held - cached - in_transit; }
};

}  // namespace kvstow
