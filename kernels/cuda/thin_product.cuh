// What thin products share: the copies of W and x through a ring of stages and the tensor cores'
// loop over them, for up to 64 outputs a warpgroup.
#pragma once

#include "kernels/cuda/elements.cuh"
#include "kernels/cuda/tensor_map.h"
#include "kernels/cuda/wgmma.cuh"

namespace kvstow::kernels::cuda::thin {

inline constexpr int kThinColumns = 1024;        // of `in`: what one block's W has room for
inline constexpr int kMostStages = 32;           // of a ring
inline constexpr int kMostRows = 128;            // of a thin block's product
inline constexpr int kSharedBytes = 224 * 1024;  // for W and x
inline constexpr int kAlignment = 1024;

struct Operands {
  CUtensorMap w;  // columns, 8 rows, and two dimensions of those
  CUtensorMap x;  // columns of a panel, rows, panels
  int outputs;    // of a block
  int stages;     // likewise
  int ring;       // stages that there is room for
  int early;      // of those, whose W is requested before the wait for earlier kernels
};

struct Barriers {
  std::uint64_t full[kMostStages];
  std::uint64_t empty[kMostStages];
};

// A block's W: 64 rows for each of kGroups warpgroups, and kRows rows of x. Panels of 64 columns
// arrive kPanels at a time, a stage. One more warp copies (with kOutputs a warpgroup). A wide block
// has any multiple of 16 rows of W up to those: the tensor cores then read what lies behind them as
// more of W, and nobody reads what they make of that.
//
// With kOutputs rows of x are the M of the tensor cores instead, 64 a warpgroup, and so many rows
// of W their N, in two products (of one the compiler finds no registers).
template <class T, int kRows, int kGroups, int kPanels, bool kWide = false, int kOutputs = 0>
struct Pipe {
  static constexpr bool kRowsFirst = kOutputs > 0;
  static constexpr int kThreads = kGroups * 128 + (kRowsFirst ? 128 : 32);
  static constexpr int kRowsOfX = kRows;
  static constexpr int kColumns = kPanels * 64;
  static constexpr int kXBytes = kRows * kColumns * 2;  // of a stage
  static constexpr int kN = kRowsFirst ? kOutputs : kRows;
  static constexpr int kProducts = kWide && !kRowsFirst ? 1 : (kN + kMostRows - 1) / kMostRows;
  static constexpr int kEach = kN / kProducts;
  static constexpr int kMostOutputs = kRowsFirst ? kOutputs : kGroups * 64;
  using Sums = float[kProducts][kEach / 2];

  const Operands& p;
  std::uint32_t data;
  Barriers& barriers;
  int w2;  // where the block's W begins in the map's last two dimensions
  int w3;
  int row0;   // of x
  int first;  // panel

  // Of W in a panel.
  static __host__ __device__ constexpr int panel_bytes(int outputs) {
    return (kWide ? outputs : kMostOutputs) * 128;
  }
  static __host__ __device__ constexpr int stage_bytes(int outputs) {
    return kPanels * panel_bytes(outputs) + kXBytes;
  }
  // The ring for so much shared memory, and what it takes of it.
  static int ring(int outputs, int bytes) {
    return (bytes - unread_bytes(outputs)) / stage_bytes(outputs);
  }
  static std::size_t shared_bytes(const Operands& o) {
    return static_cast<std::size_t>(o.ring * stage_bytes(o.outputs) + unread_bytes(o.outputs) +
                                    kAlignment);
  }
  static constexpr int unread_bytes(int outputs) {
    return kMostOutputs * 128 - panel_bytes(outputs);
  }

  __device__ std::uint32_t full(int slot) const {
    return ptx::shared_address(&barriers.full[slot]);
  }
  __device__ std::uint32_t empty(int slot) const {
    return ptx::shared_address(&barriers.empty[slot]);
  }

  __device__ std::uint32_t stage_at(int slot) const { return data + slot * stage_bytes(p.outputs); }
  __device__ std::uint32_t x_at(int slot) const {
    return stage_at(slot) + kPanels * panel_bytes(p.outputs);
  }

  // W of a stage, and that its x is to come.
  __device__ void request_w(int stage, int slot) const {
    ptx::barrier_expect(full(slot), stage_bytes(p.outputs));
#pragma unroll
    for (int i = 0; i < kPanels; ++i) {
      const std::uint32_t to = stage_at(slot) + i * panel_bytes(p.outputs);
      const int column = (first + stage * kPanels + i) * 64;
      if constexpr (kWide) {  // read once, or by two blocks at about the same time
        ptx::copy_box_once(to, &p.w, column, 0, w2, w3, full(slot));
      } else {  // other blocks may have other rows of x
        ptx::copy_box(to, &p.w, column, 0, w2, w3, full(slot));
      }
    }
  }
  __device__ void request_x(int stage, int slot) const {
    ptx::copy_box(x_at(slot), &p.x, 0, row0, first + stage * kPanels, 0, full(slot));
  }

  __device__ void begin() const {
    for (int i = 0; i < p.ring; ++i) {
      ptx::barrier_init(full(i), 1);
      ptx::barrier_init(empty(i), kGroups);
    }
    ptx::barrier_init_fence();
    for (int i = 0; i < p.early; ++i) request_w(i, i);
    ptx::prefetch_tensor_map(&p.x);
  }

  __device__ void copy() const {
    ptx::wait_for_earlier_kernels();
    for (int i = 0; i < p.ring; ++i) {
      if (i >= p.early) request_w(i, i);
      request_x(i, i);
    }
    std::uint32_t phase = 0;
    for (int i = p.ring, slot = 0; i < p.stages; ++i) {
      ptx::barrier_wait(empty(slot), phase);
      request_w(i, slot);
      request_x(i, slot);
      if (++slot == p.ring) slot = 0, phase ^= 1;
    }
  }

  __device__ void multiply(Sums& sum) const {
    const int group = static_cast<int>(threadIdx.x) / 128;
    std::uint32_t phase = 0;
    for (int i = 0, slot = 0, before = 0; i < p.stages; ++i) {
      ptx::barrier_wait(full(slot), phase);
      const std::uint64_t w = wgmma::describe(stage_at(slot));
      const std::uint64_t x = wgmma::describe(x_at(slot));
      const std::uint64_t own = (kRowsFirst ? x : w) + group * (64 * 128 / 16);
      const std::uint64_t all = kRowsFirst ? w : x;
      const int w_step = panel_bytes(p.outputs) / 16;
      constexpr int kXStep = kRows * 128 / 16;
      wgmma::fence();
#pragma unroll
      for (int k = 0; k < kColumns / 16; ++k) {
#pragma unroll
        for (int j = 0; j < kProducts; ++j) {
          wgmma::product<T, kEach>(
              sum[j], own + k / 4 * (kRowsFirst ? kXStep : w_step) + k % 4 * 2,
              all + k / 4 * (kRowsFirst ? w_step : kXStep) + j * (kEach * 128 / 16) + k % 4 * 2,
              i + k > 0);
        }
      }
      wgmma::commit();
      if (i > 0 && i - 1 + p.ring < p.stages) {  // the copies wait for the stage before
        wgmma::wait<1>();
        if (threadIdx.x % 128 == 0) ptx::barrier_arrive(empty(before));
      }
      before = slot;
      if (++slot == p.ring) slot = 0, phase ^= 1;
    }
    wgmma::wait<0>();
#pragma unroll
    for (int j = 0; j < kProducts; ++j) wgmma::pin(sum[j]);
  }

  // prepare() comes before the wait for earlier kernels, finish(sum) once the block's products are
  // there; both in the warpgroups' threads alone.
  template <class Prepare, class Finish>
  __device__ void run(const Prepare& prepare, const Finish& finish) const {
    constexpr int kCopier = kGroups * 128;
    if (threadIdx.x == kCopier) begin();
    __syncthreads();
    ptx::let_next_kernel_start();
    if (threadIdx.x >= kCopier) {
      if constexpr (kRowsFirst) ptx::fewer_registers<24>();
      if (threadIdx.x == kCopier) copy();
      return;
    }
    if constexpr (kRowsFirst) ptx::more_registers<160>();
    prepare();
    ptx::wait_for_earlier_kernels();
    Sums sum;
    multiply(sum);
    finish(sum);
  }
};

// Of x, for blocks of so many rows.
inline CUtensorMap map_of_x(const void* x, std::int64_t stride, int in, int rows, DType dtype,
                            int block_rows, int panels) {
  return make_tensor_map(
      x, dtype,
      {.extent = {64, static_cast<std::uint64_t>(rows), static_cast<std::uint64_t>(in) / 64, 1},
       .stride_bytes = {static_cast<std::uint64_t>(stride) * 2, 128,
                        static_cast<std::uint64_t>(in) * 2},
       .box = {static_cast<std::uint32_t>(block_rows), static_cast<std::uint32_t>(panels), 1}});
}

}  // namespace kvstow::kernels::cuda::thin
