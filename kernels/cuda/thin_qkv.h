// A decode step's QKV product with rotate_and_write of its outputs in the same launch: a block has
// the 128 outputs of a head, so that norm, rotation and the way to the slots are found in its
// registers. A row's bits depend neither on other rows nor on their number.
#pragma once

#include "kernels/cuda/cache_ops.h"

namespace kvstow::kernels::cuda {

// Of more the product and rotate_and_write after it are faster.
inline constexpr int kMostQkvRows = 64;

struct ThinQkvArgs {
  int in;
  const void* x;  // [to.kv.rows, in]
  std::int64_t x_stride;
  const void* weight;  // [(heads + 2 kv_heads) * 128, in]: of Q, K and V
  RotateWriteArgs to;  // k and v are not read, nor their strides; q is where Q's outputs go
};

// Whether there is a body: what has_thin_product (thin_product.h) asks without wide blocks, so many
// rows, heads of 128.
[[nodiscard]] bool has_thin_qkv(const ThinQkvArgs&);

// REQUIRES: has_thin_qkv, and that no kernel that may still run writes what it reads besides x.
void thin_qkv(const ThinQkvArgs&, cudaStream_t, Dependent dependent = Dependent::no);

}  // namespace kvstow::kernels::cuda
