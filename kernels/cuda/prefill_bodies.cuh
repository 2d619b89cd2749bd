// Instantiates the prefill bodies of one dtype; each dtype is a source file of its own. For one
// build and one (dtype, head_dim) there is exactly one body, whatever the map or the block size.
#pragma once

#include <stdexcept>
#include <string>

#include "kernels/cuda/prefill_mma.cuh"
#include "kernels/cuda/prefill_wgmma.cuh"

namespace kvstow::kernels::cuda {

template <class T, class Map>
void launch_prefill(const PrefillAttentionArgs<Map>& a, int rows, cudaStream_t stream,
                    Dependent dependent) {
  const auto with_dim = [&]<int kDim>() {
#ifdef KVSTOW_SM_90A
    if constexpr (kDim == 64 || kDim == 128) {
      launch_prefill_wgmma<T, kDim>(a, rows, stream, dependent);
    } else {
      launch_prefill_mma<T, kDim>(a, rows, stream, dependent);
    }
#else
    launch_prefill_mma<T, kDim>(a, rows, stream, dependent);
#endif
  };
  switch (a.pool.layout.head_dim) {
    case 64:
      return with_dim.template operator()<64>();
    case 80:
      return with_dim.template operator()<80>();
    case 96:
      return with_dim.template operator()<96>();
    case 128:
      return with_dim.template operator()<128>();
    case 256:
      return with_dim.template operator()<256>();
    default:
      throw std::invalid_argument("prefill_attention: head_dim " +
                                  std::to_string(a.pool.layout.head_dim) +
                                  " has no body (64, 80, 96, 128, 256)");
  }
}

#define KVSTOW_PREFILL_BODIES(T)                                                                 \
  template void launch_prefill<T>(const PrefillAttentionArgs<AffineMap>&, int, cudaStream_t,     \
                                  Dependent);                                                    \
  template void launch_prefill<T>(const PrefillAttentionArgs<BlockTableMap>&, int, cudaStream_t, \
                                  Dependent)

}  // namespace kvstow::kernels::cuda
