// Rotary position embedding's angles, for every executor that computes.
#pragma once

#include <vector>

#include "core/exec/model/transformer.h"

namespace kvstow {

// [max_positions, head_dim / 2] each.
struct RopeTable {
  std::vector<float> cos, sin;
};

// In f32 throughout, as transformers does: the angle's rounding is part of the model.
[[nodiscard]] RopeTable rope_table(const Transformer&);

}  // namespace kvstow
