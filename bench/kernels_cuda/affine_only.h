// Decode kernels that only an affine map allows, to see whether our body, which must also serve a
// block table, gives anything away under the affine one. f16, head_dim 128, up to 8 query heads on
// a K/V head; every length a multiple of 64.
#pragma once

#include <cuda.h>
#include <cuda_runtime_api.h>

#include "kernels/kernels.h"

namespace kvstow::bench {

enum class AffineCopies {
  tensor_boxes,  // TMA: 64 tokens by 64 dimensions of a head in one copy
  bulk,          // cp.async.bulk: a token's 256 bytes of a head in one copy
};

class AffineOnlyDecode {
 public:
  // splits: blocks (of a cluster) that share a row's context: 1, 2, 4 or 8, each at least 64
  // tokens.
  AffineOnlyDecode(const kernels::KvPool& pool, AffineCopies copies, int splits);

  void launch(const kernels::DecodeAttentionArgs<kernels::AffineMap>&, cudaStream_t stream) const;

 private:
  AffineCopies copies_;
  int splits_;
  CUtensorMap boxes_{};  // of the whole pool: dimension, head, slot, layer and part
};

}  // namespace kvstow::bench
