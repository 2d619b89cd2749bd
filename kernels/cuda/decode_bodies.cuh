// Instantiates the decode bodies of one dtype; each dtype is a source file of its own.
#pragma once

#include <stdexcept>
#include <string>

#include "kernels/cuda/decode_attention.cuh"

namespace kvstow::kernels::cuda {

template <class T, class Map>
void launch_decode(const DecodeParams& params, const Map& map, int head_dim, int blocks,
                   cudaStream_t stream, Dependent dependent) {
  const auto with_dim = [&]<int kDim>() {
    if (params.tiling.group <= 8) {
      launch_decode_body<T, kDim, 8>(params, map, blocks, stream, dependent);
    } else {
      launch_decode_body<T, kDim, 16>(params, map, blocks, stream, dependent);
    }
  };
  switch (head_dim) {
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
      throw std::invalid_argument("decode_attention: head_dim " + std::to_string(head_dim) +
                                  " has no body (64, 80, 96, 128, 256)");
  }
}

#define KVSTOW_DECODE_BODIES(T)                                                                 \
  template void launch_decode<T, AffineMap>(const DecodeParams&, const AffineMap&, int, int,    \
                                            cudaStream_t, Dependent);                           \
  template void launch_decode<T, BlockTableMap>(const DecodeParams&, const BlockTableMap&, int, \
                                                int, cudaStream_t, Dependent)

}  // namespace kvstow::kernels::cuda
