// y = x W^T for the few rows of a decode step, by programmatic launches alone. Outputs are the M of
// the tensor cores and rows their N. A block has 64 outputs; its part of W, which no earlier kernel
// writes, is requested before the wait for them and lies in shared memory when they end, so that a
// product takes what x takes to arrive. Where a block's part has more than 1,024 columns, or
// gate and up have so many outputs that blocks would come in waves, a multiprocessor has one wide
// block of up to 224 outputs, and W streams through shared memory. A row's bits depend neither on
// other rows nor on their number.
#pragma once

#include <cuda_runtime_api.h>

#include <cstdint>

#include "kernels/cuda/dependent.h"
#include "kernels/kv_cache.h"

namespace kvstow::kernels::cuda {

enum class ThinUse : std::uint8_t {
  store,     // y = x W^T
  silu_mul,  // W holds the gate's rows, then up's: y = silu(gate) * up
  parts,     // kThinParts sums, each over its part of `in`, in f32: whoever reads them adds them
};

inline constexpr int kThinParts = 4;
inline constexpr int kMostThinRows = 256;

struct ThinProductArgs {
  ThinUse use;
  int rows;  // 1 to kMostThinRows
  int in;
  int out;                // rows of W
  const void* x;          // [rows, in]
  std::int64_t x_stride;  // elements, a multiple of 8
  const void* weight;     // [out, in]
  void* y;  // [rows, out]; silu_mul: [rows, out / 2]; parts: f32 [kThinParts, rows, out]
  std::int64_t y_stride;  // elements, even; parts: not read
  DType dtype;
  // Leaves room for a block of decode attention on each multiprocessor: fewer stages.
  bool beside_attention = false;
};

// Whether there is a body: f16 and bf16 on sm_90a, of 64 outputs a block or, but for
// beside_attention, as many as leave one block to a multiprocessor.
[[nodiscard]] bool has_thin_product(const ThinProductArgs&);

// REQUIRES: has_thin_product, and nothing of W is written by a kernel that may still run.
void thin_product(const ThinProductArgs&, cudaStream_t, Dependent dependent = Dependent::no);

}  // namespace kvstow::kernels::cuda
