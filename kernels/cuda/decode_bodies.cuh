// Instantiates the decode bodies of one dtype; each dtype is a source file of its own.
#pragma once

#include "kernels/cuda/decode_attention.cuh"
#include "kernels/cuda/elements.cuh"

namespace kvstow::kernels::cuda {

template <class T, class Map>
void launch_decode(const DecodeParams& params, const Map& map, int head_dim, std::int64_t entries,
                   int multiprocessors, cudaStream_t stream, Dependent dependent) {
  with_head_dim(head_dim, "decode_attention", [&]<int kDim>() {
    launch_decode_body<T, kDim>(params, map, entries, multiprocessors, stream, dependent);
  });
}

#define KVSTOW_DECODE_BODIES(T)                                                                 \
  template void launch_decode<T, AffineMap>(const DecodeParams&, const AffineMap&, int,         \
                                            std::int64_t, int, cudaStream_t, Dependent);        \
  template void launch_decode<T, BlockTableMap>(const DecodeParams&, const BlockTableMap&, int, \
                                                std::int64_t, int, cudaStream_t, Dependent)

}  // namespace kvstow::kernels::cuda
