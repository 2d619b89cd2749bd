// Numbers of a 16-bit dtype on the host: what a GPU kernel reads, and the same numbers as floats
// for the CPU's reference.
#pragma once

#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <gtest/gtest.h>

#include <cmath>
#include <cstdint>
#include <vector>

#include "core/rng.h"
#include "kernels/kernels.h"

namespace kvstow::kernels::cuda::testing {

inline std::uint16_t to_bits(float x, DType dtype) {
  if (dtype == DType::f16) return static_cast<__half_raw>(__float2half_rn(x)).x;
  return static_cast<__nv_bfloat16_raw>(__float2bfloat16_rn(x)).x;
}

inline float to_float(std::uint16_t bits, DType dtype) {
  if (dtype == DType::f16) return __half2float(__half(__half_raw{bits}));
  return __bfloat162float(__nv_bfloat16(__nv_bfloat16_raw{bits}));
}

struct TypedFloats {
  std::vector<std::uint16_t> bits;
  std::vector<float> floats;
};

// Normal, with the given deviation around `mean`.
inline TypedFloats random_typed(std::size_t count, DType dtype, RandomStream& random,
                                double deviation = 1, double mean = 0) {
  TypedFloats out;
  out.bits.reserve(count);
  out.floats.reserve(count);
  for (std::size_t i = 0; i < count; ++i) {
    out.bits.push_back(to_bits(static_cast<float>(mean + deviation * random.normal()), dtype));
    out.floats.push_back(to_float(out.bits.back(), dtype));
  }
  return out;
}

// Half a unit in the last place, relative.
inline double rounding(DType dtype) {
  return dtype == DType::f16 ? 0x1p-11 : 0x1p-8;
}

// One rounding to the dtype and fp32 arithmetic apart; `scale` is the size of what was added up.
inline void expect_rounded(const std::vector<std::uint16_t>& got, const std::vector<float>& want,
                           DType dtype, double scale, const char* what) {
  ASSERT_EQ(got.size(), want.size());
  for (std::size_t i = 0; i < got.size(); ++i) {
    const double x = double{to_float(got[i], dtype)};
    const double y = double{want[i]};
    const double allowed = rounding(dtype) * std::abs(y) * 1.01 + 4e-6 * scale;
    ASSERT_LE(std::abs(x - y), allowed) << what << "[" << i << "]: " << x << " for " << y;
  }
}

}  // namespace kvstow::kernels::cuda::testing
