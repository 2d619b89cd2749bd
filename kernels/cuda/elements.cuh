// Eight 16-bit elements at a time as floats, and the choice of a body by dtype.
#pragma once

#include <stdexcept>
#include <string>

#include "kernels/cuda/ptx.cuh"
#include "kernels/kernels.h"

namespace kvstow::kernels::cuda {

// p: 16-byte aligned.
template <class T>
__device__ __forceinline__ void load8(const T* p, float (&x)[8]) {
  const uint4 raw = *reinterpret_cast<const uint4*>(p);
  const T* element = reinterpret_cast<const T*>(&raw);
#pragma unroll
  for (int i = 0; i < 8; ++i) x[i] = ptx::to_float(element[i]);
}

template <class T>
__device__ __forceinline__ void store8(T* p, const float (&x)[8]) {
  *reinterpret_cast<uint4*>(p) = {ptx::pack<T>(x[0], x[1]), ptx::pack<T>(x[2], x[3]),
                                  ptx::pack<T>(x[4], x[5]), ptx::pack<T>(x[6], x[7])};
}

__device__ __forceinline__ void load8(const float* p, float (&x)[8]) {
  const float4 low = reinterpret_cast<const float4*>(p)[0];
  const float4 high = reinterpret_cast<const float4*>(p)[1];
  x[0] = low.x, x[1] = low.y, x[2] = low.z, x[3] = low.w;
  x[4] = high.x, x[5] = high.y, x[6] = high.z, x[7] = high.w;
}

// The same eight elements, loaded now and needed later.
template <class T>
struct Raw8 {
  uint4 raw[sizeof(T) / 2];

  __device__ __forceinline__ void load(const T* p) {
#pragma unroll
    for (std::size_t i = 0; i < sizeof(T) / 2; ++i) raw[i] = reinterpret_cast<const uint4*>(p)[i];
  }
  __device__ __forceinline__ void to(float (&x)[8]) const {
    load8(reinterpret_cast<const T*>(raw), x);
  }
};

// body.operator()<T>() for the 16-bit type that `dtype` names.
template <class Body>
void with_dtype(DType dtype, const char* kernel, const Body& body) {
  switch (dtype) {
    case DType::f16:
      return body.template operator()<__half>();
    case DType::bf16:
      return body.template operator()<__nv_bfloat16>();
    case DType::f32:
      break;
  }
  throw std::invalid_argument(std::string(kernel) + ": dtype f32 has no body on the GPU");
}

// body.operator()<kDim>() for the head dimension of an attention kernel.
template <class Body>
void with_head_dim(int head_dim, const char* kernel, const Body& body) {
  switch (head_dim) {
    case 64:
      return body.template operator()<64>();
    case 80:
      return body.template operator()<80>();
    case 96:
      return body.template operator()<96>();
    case 128:
      return body.template operator()<128>();
    case 256:
      return body.template operator()<256>();
    default:
      throw std::invalid_argument(std::string(kernel) + ": head_dim " + std::to_string(head_dim) +
                                  " has no body (64, 80, 96, 128, 256)");
  }
}

// Vectors of 16 bytes are what every kernel here reads and writes.
inline void require(bool condition, const char* kernel, const char* what) {
  if (!condition) throw std::invalid_argument(std::string(kernel) + ": " + what);
}

}  // namespace kvstow::kernels::cuda
