// f32 beside the 16-bit types: bodies for finding errors in models, not for speed. Attention's is
// attention_f32.h.
#pragma once

#include "kernels/cuda/elements.cuh"

namespace kvstow::kernels::cuda {

namespace ptx {

template <>
__device__ __forceinline__ float from_float<float>(float x) {
  return x;
}

template <>
__device__ __forceinline__ float to_float<float>(float x) {
  return x;
}

}  // namespace ptx

__device__ __forceinline__ void store8(float* p, const float (&x)[8]) {
  reinterpret_cast<float4*>(p)[0] = {x[0], x[1], x[2], x[3]};
  reinterpret_cast<float4*>(p)[1] = {x[4], x[5], x[6], x[7]};
}

// with_dtype() with float, too.
template <class Body>
void with_any_dtype(DType dtype, const char* kernel, const Body& body) {
  if (dtype == DType::f32) return body.template operator()<float>();
  with_dtype(dtype, kernel, body);
}

}  // namespace kvstow::kernels::cuda
