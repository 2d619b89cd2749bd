// Instantiates the decode bodies of one dtype; each dtype is a source file of its own.
#pragma once

#include "kernels/cuda/decode_launch.cuh"
#include "kernels/cuda/elements.cuh"

namespace kvstow::kernels::cuda {

template <class T, class Map>
void launch_decode(const DecodeParams& params, const Map& map, int head_dim,
                   const DecodeLaunch& shape) {
  with_head_dim(head_dim, "decode_attention",
                [&]<int kDim>() { launch_decode_body<T, kDim>(params, map, shape); });
}

template <class T>
int resident_clusters(int head_dim, int cluster) {
  int count = 0;
  with_head_dim(head_dim, "decode_attention",
                [&]<int kDim>() { count = resident_decode_clusters<T, kDim>(cluster); });
  return count;
}

#define KVSTOW_DECODE_BODIES(T)                                                                 \
  template void launch_decode<T, AffineMap>(const DecodeParams&, const AffineMap&, int,         \
                                            const DecodeLaunch&);                               \
  template void launch_decode<T, BlockTableMap>(const DecodeParams&, const BlockTableMap&, int, \
                                                const DecodeLaunch&);                           \
  template int resident_clusters<T>(int, int)

}  // namespace kvstow::kernels::cuda
