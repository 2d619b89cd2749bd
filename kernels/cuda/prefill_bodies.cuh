// Instantiates the prefill bodies of one dtype; each dtype is a source file of its own. For one
// build and one (dtype, head_dim) there is exactly one body, whatever the map or the block size.
#pragma once

#include "kernels/cuda/elements.cuh"
#include "kernels/cuda/prefill_mma.cuh"
#include "kernels/cuda/prefill_wgmma.cuh"

namespace kvstow::kernels::cuda {

template <class T, class Map>
void launch_prefill(const PrefillAttentionArgs<Map>& a, int rows, cudaStream_t stream,
                    Dependent dependent) {
  with_head_dim(a.pool.layout.head_dim, "prefill_attention", [&]<int kDim>() {
#ifdef KVSTOW_SM_90A
    if constexpr (kDim == 64 || kDim == 128) {
      launch_prefill_wgmma<T, kDim>(a, rows, stream, dependent);
    } else {
      launch_prefill_mma<T, kDim>(a, rows, stream, dependent);
    }
#else
    launch_prefill_mma<T, kDim>(a, rows, stream, dependent);
#endif
  });
}

#define KVSTOW_PREFILL_BODIES(T)                                                                 \
  template void launch_prefill<T>(const PrefillAttentionArgs<AffineMap>&, int, cudaStream_t,     \
                                  Dependent);                                                    \
  template void launch_prefill<T>(const PrefillAttentionArgs<BlockTableMap>&, int, cudaStream_t, \
                                  Dependent)

}  // namespace kvstow::kernels::cuda
