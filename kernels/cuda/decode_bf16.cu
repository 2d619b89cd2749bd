#include "kernels/cuda/decode_bodies.cuh"

namespace kvstow::kernels::cuda {
KVSTOW_DECODE_BODIES(__nv_bfloat16);
}  // namespace kvstow::kernels::cuda
