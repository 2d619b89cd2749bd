// Attention in f32, prefill and decode alike, any head_dim up to 256: one block for a row and head,
// plain sums. It exists to tell a wrong model from rounding; use the other kernels for everything
// else.
#pragma once

#include <cuda_runtime_api.h>

#include "kernels/kernels.h"

namespace kvstow::kernels::cuda {

// rows: row_begin[sequences], which the host knows before the device does.
// Throws CudaError (a failed launch) or std::invalid_argument (a shape or dtype there is no body
// for).
template <class Map>
void attention_f32(const PrefillAttentionArgs<Map>&, int rows, cudaStream_t stream);
template <class Map>
void attention_f32(const DecodeAttentionArgs<Map>&, cudaStream_t stream);

}  // namespace kvstow::kernels::cuda
