// Instantiates the decode bodies of one dtype; each dtype is a source file of its own.
#pragma once

#include <stdexcept>
#include <string>

#include "kernels/cuda/decode_attention.cuh"

namespace kvstow::kernels::cuda {

template <class T, class Map>
void launch_decode(const DecodeParams& params, const Map& map, int head_dim, std::int64_t entries,
                   int multiprocessors, cudaStream_t stream, Dependent dependent) {
  const auto with_dim = [&]<int kDim>() {
    launch_decode_body<T, kDim>(params, map, entries, multiprocessors, stream, dependent);
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
  template void launch_decode<T, AffineMap>(const DecodeParams&, const AffineMap&, int,         \
                                            std::int64_t, int, cudaStream_t, Dependent);        \
  template void launch_decode<T, BlockTableMap>(const DecodeParams&, const BlockTableMap&, int, \
                                                std::int64_t, int, cudaStream_t, Dependent)

}  // namespace kvstow::kernels::cuda
