#include "kernels/cuda/prefill_bodies.cuh"

namespace kvstow::kernels::cuda {
KVSTOW_PREFILL_BODIES(__nv_bfloat16);
}  // namespace kvstow::kernels::cuda
