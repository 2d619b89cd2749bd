#include "core/exec/model/rope.h"

#include <cmath>

namespace kvstow {

RopeTable rope_table(const Transformer& shape) {
  RopeTable table;
  const int half = shape.head_dim / 2;
  std::vector<float> frequency;
  for (int i = 0; i < half; ++i) {
    frequency.push_back(
        static_cast<float>(1 / std::pow(shape.rope_theta, 2.0 * i / shape.head_dim)));
  }
  for (int position = 0; position < shape.max_positions; ++position) {
    for (int i = 0; i < half; ++i) {
      const float angle = static_cast<float>(position) * frequency[static_cast<std::size_t>(i)];
      table.cos.push_back(std::cos(angle));
      table.sin.push_back(std::sin(angle));
    }
  }
  return table;
}

}  // namespace kvstow
