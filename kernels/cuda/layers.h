// The rest of a layer on the GPU: norms, activations, embeddings. Device pointers, any dtype
// of kv_cache.h, fp32 inside with one rounding at the end. The residual stream, which embeddings
// begin and norms read, is f32 whatever the dtype. Widths and strides are multiples of 8 elements.
// A row's sums are taken in an order that its width alone decides.
#pragma once

#include <cuda_runtime_api.h>

#include "kernels/cuda/dependent.h"
#include "kernels/kernels.h"

namespace kvstow::kernels::cuda {

// x is f32; weight, bias and y, which is not x, are of the dtype. width at most 16384. q/k norms
// are rotate_and_write's.
void norm(const NormArgs&, cudaStream_t stream, Dependent dependent = Dependent::no);

// residual += the sum, in order, of a thin product's parts ([kThinParts, rows, width],
// thin_product.h), then y = norm(residual), in one pass. residual: [rows, width], rows x_stride
// apart; x is not read. One segment of at most 8192.
void join_norm(const NormArgs&, const float* parts, float* residual, cudaStream_t stream,
               Dependent dependent = Dependent::no);

void activation(const ActivationArgs&, cudaStream_t stream, Dependent dependent = Dependent::no);

// The first launch of a step.
struct StepBegin {
  const std::int32_t* drawn = nullptr;  // by the step before: a token below 0 is drawn[~token]
  std::uint64_t* at = nullptr;          // gets the device's clock in nanoseconds; null: not wanted
};
// The tables are of the dtype, y is f32.
void embedding(const EmbeddingArgs&, const StepBegin& begin, cudaStream_t stream,
               Dependent dependent = Dependent::no);

}  // namespace kvstow::kernels::cuda
