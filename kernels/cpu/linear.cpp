#include <algorithm>
#include <vector>

#include "core/check.h"
#include "kernels/cpu/cpu.h"

namespace kvstow::kernels::cpu {
namespace {

// Rows of one task: enough that a panel, read from L2 once per tile, is worth fetching.
constexpr int kRowBlock = 96;

// A tile's rows side by side, [in][rows]: the inner loop then reads one stream instead of several
// that a power-of-two stride would put into the same cache set.
void interleave(const float* x, std::int64_t stride, int rows, int in, float* to) {
  for (int r = 0; r < rows; ++r) {
    for (int k = 0; k < in; ++k) to[std::int64_t{k} * rows + r] = x[r * stride + k];
  }
}

}  // namespace

void pack_weight(const float* weight, int out, int in, float* packed) {
  for (int n0 = 0; n0 < out; n0 += kPanel) {
    float* panel = packed + static_cast<std::int64_t>(n0) * in;
    const int width = std::min(kPanel, out - n0);
    for (int c = 0; c < kPanel; ++c) {
      for (int k = 0; k < in; ++k) {
        panel[std::int64_t{k} * kPanel + c] =
            c < width ? weight[static_cast<std::int64_t>(n0 + c) * in + k] : 0.0f;
      }
    }
  }
}

void linear(const LinearArgs& a, ThreadPool& threads, const Isa& kernel) {
  KVSTOW_DCHECK(a.dtype == DType::f32, "the CPU kernels compute in f32");
  if (a.rows == 0) return;
  const auto* x = static_cast<const float*>(a.x);
  const auto* weight = static_cast<const float*>(a.weight);
  const auto* bias = static_cast<const float*>(a.bias);
  const auto* residual = static_cast<const float*>(a.residual);
  auto* y = static_cast<float*>(a.y);

  const int tile = kernel.max_tile_rows;
  const int block = std::max(tile, kRowBlock / tile * tile);
  const std::int64_t blocks = ceil_div(a.rows, block);
  const std::int64_t panels = ceil_div(a.out, kPanel);

  const float* tiles = x;  // one row is its own interleaved form
  thread_local std::vector<float> scratch;
  if (a.rows > 1) {
    scratch.resize(static_cast<std::size_t>(a.rows) * static_cast<std::size_t>(a.in));
    float* to = scratch.data();
    threads.run(blocks, [&](std::int64_t b) {
      const int end = std::min<int>(a.rows, static_cast<int>(b + 1) * block);
      for (int row = static_cast<int>(b) * block; row < end; row += tile) {
        interleave(x + row * a.x_stride, a.x_stride, std::min(tile, end - row), a.in,
                   to + std::int64_t{row} * a.in);
      }
    });
    tiles = to;
  }

  threads.run(panels * blocks, [&](std::int64_t task) {
    const int n0 = static_cast<int>(task / blocks) * kPanel;
    const int width = std::min(kPanel, a.out - n0);
    const int begin = static_cast<int>(task % blocks) * block;
    const int end = std::min(a.rows, begin + block);
    alignas(64) float sums[16 * kPanel];
    for (int row = begin; row < end; row += tile) {
      const int rows = std::min(tile, end - row);
      kernel.linear_tile(rows, a.in, tiles + std::int64_t{row} * a.in,
                         weight + static_cast<std::int64_t>(n0) * a.in, sums);
      for (int r = 0; r < rows; ++r) {
        const std::int64_t at = (row + r) * a.y_stride + n0;
        for (int c = 0; c < width; ++c) {
          float value = sums[r * kPanel + c];
          if (bias) value += bias[n0 + c];
          if (residual) value += residual[at + c];
          y[at + c] = value;
        }
      }
    }
  });
}

}  // namespace kvstow::kernels::cpu
