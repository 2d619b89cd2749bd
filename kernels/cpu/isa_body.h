// The vectorised bodies. Compiled once per instruction set (isa_*.cpp), everything in an anonymous
// namespace and without the standard library, so that no function compiled for a newer machine can
// be picked by the linker for an older one. Not a public header: it is the inside of isa_*.cpp.
//
// Vectors are always 16 floats wide (GCC and clang vector extensions); narrower machines split
// them.
#include <cstddef>
#include <cstdint>

#include "kernels/cpu/isa.h"

namespace kvstow::kernels::cpu {
namespace {

typedef float V16 __attribute__((vector_size(64)));
typedef std::int32_t I16 __attribute__((vector_size(64)));

constexpr int kLanes = 16;

inline V16 load(const float* p) {
  V16 v;
  __builtin_memcpy(&v, p, sizeof v);
  return v;
}
inline V16 load_first(const float* p, int count) {  // the rest is zero
  V16 v = {};
  __builtin_memcpy(&v, p, static_cast<std::size_t>(count) * sizeof(float));
  return v;
}
inline void store(float* p, V16 v) {
  __builtin_memcpy(p, &v, sizeof v);
}
inline V16 splat(float x) {
  return V16{} + x;
}
inline V16 larger(V16 a, V16 b) {
  return a > b ? a : b;
}

// ---- linear --------------------------------------------------------------------------------

// One accumulator per output, k ascending: the order of additions is the same for every kRows, so
// a row's bits do not depend on the batch it is computed in.
template <int kRows, int kVectors>
inline void tile_columns(int in, const float* x, const float* panel, float* y) {
  V16 acc[kRows][kVectors] = {};
  for (int k = 0; k < in; ++k) {
    V16 w[kVectors];
    for (int c = 0; c < kVectors; ++c) w[c] = load(panel + std::ptrdiff_t{k} * kPanel + c * kLanes);
    for (int r = 0; r < kRows; ++r) {
      const V16 xs = splat(x[std::ptrdiff_t{k} * kRows + r]);
      for (int c = 0; c < kVectors; ++c) acc[r][c] += xs * w[c];
    }
  }
  for (int r = 0; r < kRows; ++r) {
    for (int c = 0; c < kVectors; ++c) store(y + r * kPanel + c * kLanes, acc[r][c]);
  }
}

// As many columns at a time as the accumulators fit into kAccumulators registers of 16 floats.
template <int kRows, int kAccumulators>
void tile(int in, const float* x, const float* panel, float* y) {
  constexpr int kFit = kAccumulators / kRows;
  constexpr int kVectors = kFit >= 4 ? 4 : kFit >= 2 ? 2 : 1;
  for (int c = 0; c < kPanel; c += kVectors * kLanes) {
    tile_columns<kRows, kVectors>(in, x, panel + c, y + c);
  }
}

template <int kMaxRows, int kAccumulators>
void linear_tile(int rows, int in, const float* x, const float* panel, float* y) {
  switch (rows) {
    case 1:
      return tile<1, kAccumulators>(in, x, panel, y);
    case 2:
      return tile<2, kAccumulators>(in, x, panel, y);
    case 3:
      return tile<3, kAccumulators>(in, x, panel, y);
    case 4:
      return tile<4, kAccumulators>(in, x, panel, y);
    case 5:
      return tile<5, kAccumulators>(in, x, panel, y);
    case 6:
      return tile<6, kAccumulators>(in, x, panel, y);
    default:
      return;
  }
  static_assert(kMaxRows <= 6);
}

// ---- attention -----------------------------------------------------------------------------

// One step of a transposing sum: the pairwise sums of blocks of kWidth lanes of a, then of b.
template <int kWidth>
constexpr int block_lane(int lane, int half) {
  const int in_vector = lane % 8;
  return (lane / 8) * kLanes + in_vector / kWidth * 2 * kWidth + in_vector % kWidth + half * kWidth;
}
#define KVSTOW_LANES(W, H)                                                                  \
  block_lane<W>(0, H), block_lane<W>(1, H), block_lane<W>(2, H), block_lane<W>(3, H),       \
      block_lane<W>(4, H), block_lane<W>(5, H), block_lane<W>(6, H), block_lane<W>(7, H),   \
      block_lane<W>(8, H), block_lane<W>(9, H), block_lane<W>(10, H), block_lane<W>(11, H), \
      block_lane<W>(12, H), block_lane<W>(13, H), block_lane<W>(14, H), block_lane<W>(15, H)
template <int kWidth>
inline V16 pair_sums(V16 a, V16 b) {
  return __builtin_shufflevector(a, b, KVSTOW_LANES(kWidth, 0)) +
         __builtin_shufflevector(a, b, KVSTOW_LANES(kWidth, 1));
}
#undef KVSTOW_LANES

// Lane i of the result is the sum of the lanes of v[i], always as the same binary tree.
inline V16 lane_sums(V16 (&v)[kLanes]) {
  for (int i = 0; i < 8; ++i) v[i] = pair_sums<8>(v[2 * i], v[2 * i + 1]);
  for (int i = 0; i < 4; ++i) v[i] = pair_sums<4>(v[2 * i], v[2 * i + 1]);
  for (int i = 0; i < 2; ++i) v[i] = pair_sums<2>(v[2 * i], v[2 * i + 1]);
  return pair_sums<1>(v[0], v[1]);
}

// e^x for x <= 0 (below -87 it is e^-87, 1e-38), about 1 ulp: x = n ln 2 + r, Taylor for e^r with
// |r| <= ln 2 / 2 (the next term is 5e-9), 2^n put into the exponent.
inline V16 exp_nonpositive(V16 x) {
  const V16 floor = splat(-87.0f);
  x = x < floor ? floor : x;             // keeps NaN
  const V16 magic = splat(12582912.0f);  // 1.5 * 2^23: adding it rounds to an integer
  const V16 n = (x * 1.44269504f + magic) - magic;
  const V16 r = (x - n * 0.693359375f) + n * 2.12194440e-4f;
  V16 p = splat(1.0f / 5040);
  p = p * r + 1.0f / 720;
  p = p * r + 1.0f / 120;
  p = p * r + 1.0f / 24;
  p = p * r + 1.0f / 6;
  p = p * r + 0.5f;
  p = p * r + 1.0f;
  p = p * r + 1.0f;
  const I16 exponent = (__builtin_convertvector(n, I16) + 127) << 23;
  V16 power;
  __builtin_memcpy(&power, &exponent, sizeof power);
  return p * power;
}

constexpr int kChunk = 128;

// q . k of 16 positions from t on; positions past the last repeat it (their lanes are not used).
inline V16 scores_of(const float* q, const float* k, const std::int64_t* offset, int t, int n,
                     int head_dim) {
  V16 dot[kLanes];
  for (int i = 0; i < kLanes; i += 4) {
    const float* rows[4];
    for (int j = 0; j < 4; ++j) rows[j] = k + offset[t + i + j < n ? t + i + j : n - 1];
    V16 acc[4] = {};
    int d = 0;
    for (; d + kLanes <= head_dim; d += kLanes) {
      const V16 qs = load(q + d);
      for (int j = 0; j < 4; ++j) acc[j] += qs * load(rows[j] + d);
    }
    if (d < head_dim) {
      const V16 qs = load_first(q + d, head_dim - d);
      for (int j = 0; j < 4; ++j) acc[j] += qs * load_first(rows[j] + d, head_dim - d);
    }
    for (int j = 0; j < 4; ++j) dot[i + j] = acc[j];
  }
  return lane_sums(dot);
}

// out[d..] = old * alpha + beta * sum over t, in order, of p[t] v[t][d..], kVectors at a time.
template <int kVectors>
inline void weighted_sum(const float* p, const float* v, const std::int64_t* offset, int n,
                         float alpha, float beta, float* out) {
  V16 acc[kVectors] = {};
  for (int t = 0; t < n; ++t) {
    const V16 weight = splat(p[t]);
    for (int c = 0; c < kVectors; ++c) acc[c] += weight * load(v + offset[t] + c * kLanes);
  }
  for (int c = 0; c < kVectors; ++c) {
    store(out + c * kLanes, load(out + c * kLanes) * alpha + acc[c] * beta);
  }
}

void attend_chunk(const float* q, const float* k, const float* v, const std::int64_t* offset, int n,
                  int head_dim, float scale, bool first, AttentionState& state) {
  float p[kChunk];
  V16 largest = splat(-__builtin_inff());
  for (int t = 0; t < n; t += kLanes) {
    store(p + t, scores_of(q, k, offset, t, n, head_dim) * scale);
    for (int i = n; i < t + kLanes; ++i) p[i] = -__builtin_inff();
    largest = larger(load(p + t), largest);
  }
  float max = largest[0];
  for (int i = 1; i < kLanes; ++i) max = largest[i] > max ? largest[i] : max;

  V16 sums[kLanes] = {};
  for (int t = 0; t < n; t += kLanes) {
    store(p + t, exp_nonpositive(load(p + t) - max));
    for (int i = n; i < t + kLanes; ++i) p[i] = 0;
    sums[0] += load(p + t);
  }
  const float sum = lane_sums(sums)[0];

  // Fold: both sides are rescaled to the larger maximum.
  float alpha = 0;
  float beta = 1;
  if (first) {
    state.max = max;
    state.sum = 0;
    for (int d = 0; d < head_dim; ++d) state.acc[d] = 0;
  } else {
    const float both = state.max > max ? state.max : max;
    V16 shift = {state.max - both, max - both};
    shift = exp_nonpositive(shift);
    alpha = shift[0];
    beta = shift[1];
    state.max = both;
  }
  state.sum = state.sum * alpha + sum * beta;

  int d = 0;
  for (; d + 4 * kLanes <= head_dim; d += 4 * kLanes) {
    weighted_sum<4>(p, v + d, offset, n, alpha, beta, state.acc + d);
  }
  for (; d + kLanes <= head_dim; d += kLanes) {
    weighted_sum<1>(p, v + d, offset, n, alpha, beta, state.acc + d);
  }
  for (; d < head_dim; ++d) {
    float acc = 0;
    for (int t = 0; t < n; ++t) acc += p[t] * v[offset[t] + d];
    state.acc[d] = state.acc[d] * alpha + acc * beta;
  }
}

}  // namespace
}  // namespace kvstow::kernels::cpu
