// Norms, RoPE, activations, embeddings: a few percent of a step, left to the compiler's vectoriser.
// Sums run over 16 fixed lanes and then left to right, whatever the machine.
#include <cmath>
#include <cstring>

#include "core/check.h"
#include "kernels/cpu/cpu.h"

namespace kvstow::kernels::cpu {
namespace {

const float* floats(const void* p) {
  return static_cast<const float*>(p);
}
float* floats(void* p) {
  return static_cast<float*>(p);
}

template <class Body>
void for_rows(int rows, ThreadPool& threads, Body&& body) {
  constexpr int kRows = 16;
  threads.run(ceil_div(rows, kRows), [&](std::int64_t task) {
    for (std::int64_t row = task * kRows; row < rows && row < (task + 1) * kRows; ++row) body(row);
  });
}

// Sum of (x[i] - mean)^power, power 1 or 2.
template <int kPower>
float lane_sum(const float* x, int n, float mean) {
  constexpr int kLanes = 16;
  float lanes[kLanes] = {};
  const auto term = [mean](float value) {
    const float centred = value - mean;
    return kPower == 1 ? centred : centred * centred;
  };
  int i = 0;
  for (; i + kLanes <= n; i += kLanes) {
    for (int lane = 0; lane < kLanes; ++lane) lanes[lane] += term(x[i + lane]);
  }
  for (int lane = 0; i + lane < n; ++lane) lanes[lane] += term(x[i + lane]);
  float sum = 0;
  for (const float lane : lanes) sum += lane;
  return sum;
}

}  // namespace

void norm(const NormArgs& a, ThreadPool& threads) {
  KVSTOW_DCHECK(a.dtype == DType::f32, "f32 only");
  const float* weight = floats(a.weight);
  const float* bias = floats(a.bias);
  const float width = static_cast<float>(a.width);
  for_rows(a.rows, threads, [&](std::int64_t row) {
    for (int segment = 0; segment < a.segments; ++segment) {
      const float* x = floats(a.x) + row * a.x_stride + std::int64_t{segment} * a.width;
      float* y = floats(a.y) + row * a.y_stride + std::int64_t{segment} * a.width;
      const bool centre = a.kind == NormKind::layer_norm;
      const float mean = centre ? lane_sum<1>(x, a.width, 0) / width : 0;
      const float factor = 1 / std::sqrt(lane_sum<2>(x, a.width, mean) / width + a.epsilon);
      if (centre) {
        for (int i = 0; i < a.width; ++i) y[i] = (x[i] - mean) * factor * weight[i] + bias[i];
      } else {
        for (int i = 0; i < a.width; ++i) y[i] = x[i] * factor * weight[i];
      }
    }
  });
}

void rope(const RopeArgs& a, ThreadPool& threads) {
  KVSTOW_DCHECK(a.dtype == DType::f32, "f32 only");
  const int half = a.head_dim / 2;
  for_rows(a.rows, threads, [&](std::int64_t row) {
    const float* cos = a.cos + std::int64_t{a.position[row]} * half;
    const float* sin = a.sin + std::int64_t{a.position[row]} * half;
    for (int head = 0; head < a.heads; ++head) {
      float* low = floats(a.x) + row * a.x_stride + std::int64_t{head} * a.head_dim;
      float* high = low + half;
      for (int i = 0; i < half; ++i) {
        const float l = low[i];
        const float h = high[i];
        low[i] = l * cos[i] - h * sin[i];
        high[i] = h * cos[i] + l * sin[i];
      }
    }
  });
}

void activation(const ActivationArgs& a, ThreadPool& threads) {
  KVSTOW_DCHECK(a.dtype == DType::f32, "f32 only");
  for_rows(a.rows, threads, [&](std::int64_t row) {
    const float* x = floats(a.x) + row * a.x_stride;
    float* y = floats(a.y) + row * a.y_stride;
    if (a.kind == ActivationKind::relu) {
      for (int i = 0; i < a.width; ++i) y[i] = x[i] < 0 ? 0.0f : x[i];  // keeps NaN
    } else {
      for (int i = 0; i < a.width; ++i) y[i] = x[i] / (1 + std::exp(-x[i])) * x[a.width + i];
    }
  });
}

void embedding(const EmbeddingArgs& a, ThreadPool& threads) {
  KVSTOW_DCHECK(a.dtype == DType::f32, "f32 only");
  for_rows(a.rows, threads, [&](std::int64_t row) {
    const float* from = floats(a.table) + std::int64_t{a.token[row]} * a.width;
    float* y = floats(a.y) + row * a.y_stride;
    std::memcpy(y, from, static_cast<std::size_t>(a.width) * sizeof(float));
    if (a.position_table) {
      const float* add = floats(a.position_table) + std::int64_t{a.position[row]} * a.width;
      for (int i = 0; i < a.width; ++i) y[i] += add[i];
    }
  });
}

}  // namespace kvstow::kernels::cpu
