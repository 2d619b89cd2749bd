// The rest of a layer on the GPU: norms, activations, embeddings. Device pointers, any dtype
// of kv_cache.h, fp32 inside with one rounding at the end. Widths and strides are multiples of 8
// elements. A row's sums are taken in an order that its width alone decides.
#pragma once

#include <cuda_runtime_api.h>

#include "kernels/cuda/dependent.h"
#include "kernels/kernels.h"

namespace kvstow::kernels::cuda {

// width at most 16384. For many short vectors (q/k norms) rotate_and_write does better.
void norm(const NormArgs&, cudaStream_t stream, Dependent dependent = Dependent::no);

// residual += x, then y = norm(residual), in one pass. residual: [rows, segments * width], rows
// x_stride apart. The sum is rounded to the dtype before the norm reads it, as a kernel of its own
// would have left it.
void add_norm(const NormArgs&, void* residual, cudaStream_t stream,
              Dependent dependent = Dependent::no);

// Likewise with the sum, in order, of a thin product's parts (f32 [kThinParts, rows, width],
// thin_product.h) instead of x, which is not read; one segment of at most 8192.
void join_norm(const NormArgs&, const float* parts, void* residual, cudaStream_t stream,
               Dependent dependent = Dependent::no);

void activation(const ActivationArgs&, cudaStream_t stream, Dependent dependent = Dependent::no);

// The first launch of a step.
struct StepBegin {
  const std::int32_t* drawn = nullptr;  // by the step before: a token below 0 is drawn[~token]
  std::uint64_t* at = nullptr;          // gets the device's clock in nanoseconds; null: not wanted
};
void embedding(const EmbeddingArgs&, const StepBegin& begin, cudaStream_t stream,
               Dependent dependent = Dependent::no);

}  // namespace kvstow::kernels::cuda
