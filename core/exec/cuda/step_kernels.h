// The small kernels around a forward pass.
#pragma once

#include <cuda_runtime_api.h>

#include <cstdint>

#include "kernels/cuda/dependent.h"
#include "kernels/kv_cache.h"

namespace kvstow {

// Whether this build's kernels run on the current device.
[[nodiscard]] bool has_code_for_device();

// y[i] = x[row[i]], rows of `width` elements side by side; width a multiple of 8.
void gather_rows(const void* x, const std::int32_t* row, int rows, int width, kernels::DType,
                 void* y, cudaStream_t);

// to[i] = mean + scale * (2 u_i - 1), u_i being number i of the RandomStream with this key: the
// numbers that random_weights() gives on the host, rounded to the dtype.
void fill_uniform_weights(void* to, std::int64_t count, kernels::DType, std::uint64_t key,
                          double mean, double scale, cudaStream_t);

// From f32 to the dtype, rounded to nearest.
void convert_weights(const float* from, std::int64_t count, kernels::DType, void* to, cudaStream_t);

// Keeps the stream busy for so long, on one thread.
void spin(double seconds, cudaStream_t);

}  // namespace kvstow
