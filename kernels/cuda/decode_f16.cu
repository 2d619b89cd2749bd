#include "kernels/cuda/decode_bodies.cuh"

namespace kvstow::kernels::cuda {
KVSTOW_DECODE_BODIES(__half);
}  // namespace kvstow::kernels::cuda
