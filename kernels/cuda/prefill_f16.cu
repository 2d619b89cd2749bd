#include "kernels/cuda/prefill_bodies.cuh"

namespace kvstow::kernels::cuda {
KVSTOW_PREFILL_BODIES(__half);
}  // namespace kvstow::kernels::cuda
