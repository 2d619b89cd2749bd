// Prefill attention on the GPU: PrefillAttentionArgs of kernels/kernels.h with device pointers,
// dtype f16 or bf16 (pool, q and out alike), head_dim 64, 80, 96, 128 or 256, strides multiples of
// 8 elements.
#pragma once

#include <cuda_runtime_api.h>

#include "kernels/cuda/dependent.h"
#include "kernels/kernels.h"

namespace kvstow::kernels::cuda {

// rows: row_begin[sequences], which the host knows before the device does; it fixes the grid. Rows
// of the sequences beyond it are not computed. A row's bits depend on its own sequence alone: K and
// V are read in tiles at absolute positions, and a tile that a row does not see changes nothing of
// it, so they are the same in any batch, cut into any chunks, under either map.
// Before the predecessor of a launch with Dependent::yes has finished it reads row_begin and first,
// so no kernel of the step may write those.
// Throws CudaError (a failed launch) or std::invalid_argument (a shape there is no body for).
template <class Map>
void prefill_attention(const PrefillAttentionArgs<Map>&, int rows, cudaStream_t stream,
                       Dependent dependent = Dependent::no);

}  // namespace kvstow::kernels::cuda
