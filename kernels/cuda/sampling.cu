#include "core/rng.h"
#include "kernels/cuda/elements.cuh"
#include "kernels/cuda/launch.h"
#include "kernels/cuda/sampling.h"

namespace kvstow::kernels::cuda {
namespace {

constexpr int kThreads = 1024;
constexpr int kWarps = kThreads / 32;
constexpr int kChunk = 256;  // neighbouring tokens, a warp's work at a time
constexpr int kMaxChunks = 1024;
constexpr int kBins = 2048;
constexpr float kLog2E = 1.4426950408889634f;
constexpr float kOne = 0x1p40f;  // probability 1 (of the likeliest token) in fixed point

// __host__ mix64 of core/rng.h is constexpr, which the device may call only with a flag of nvcc's.
__device__ std::uint64_t mix(std::uint64_t x) {
  x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9ULL;
  x = (x ^ (x >> 27)) * 0x94d049bb133111ebULL;
  return x ^ (x >> 31);
}

// The numerator over 2^64 of kvstow::uniform_for; `stream` is the mixed seed.
__device__ std::uint64_t uniform_bits(std::uint64_t stream, const SamplingRow& r) {
  const std::uint64_t parts[3] = {r.request, r.sample,
                                  static_cast<std::uint64_t>(std::int64_t{r.output_position})};
  std::uint64_t key = stream;
#pragma unroll
  for (int i = 0; i < 3; ++i) key = mix(key + 0x9e3779b97f4a7c15ULL * (parts[i] + 1));
  return key >> 11 << 11;
}

// Order-preserving bits of a finite float; -0 and 0 are one.
__device__ std::uint32_t key_of(float x) {
  const std::uint32_t bits = __float_as_uint(x + 0.0f);
  return bits & 0x80000000u ? ~bits : bits | 0x80000000u;
}
__device__ float logit_of(std::uint32_t key) {
  return __uint_as_float(key & 0x80000000u ? key & 0x7fffffffu : ~key);
}

struct Shared {
  std::uint64_t chunks[kMaxChunks];
  std::uint64_t bins[kBins];
  std::uint64_t warps[kWarps];
  std::uint64_t found;  // what a search hands to everyone
  std::uint64_t before;
  std::uint64_t total;
  int bad;
};

__device__ std::uint64_t warp_inclusive(std::uint64_t x) {
#pragma unroll
  for (int offset = 1; offset < 32; offset *= 2) {
    const std::uint64_t y = __shfl_up_sync(0xffffffffu, x, offset);
    if (threadIdx.x % 32 >= static_cast<unsigned>(offset)) x += y;
  }
  return x;
}

__device__ std::uint64_t warp_sum(std::uint64_t x) {
#pragma unroll
  for (int offset = 16; offset > 0; offset /= 2) x += __shfl_xor_sync(0xffffffffu, x, offset);
  return x;
}

template <class T>
class Sampler {
 public:
  __device__ Sampler(const SamplingArgs& a, Shared& s)
      : s_(s),
        logits_(static_cast<const T*>(a.logits) + blockIdx.x * a.logits_stride),
        vocab_(a.vocab),
        chunks_((a.vocab + kChunk - 1) / kChunk) {}

  // Fills `x` with this lane's 8 logits of a chunk and returns how many there are.
  __device__ int load_chunk(int chunk, float (&x)[8]) const {
    const int at = chunk * kChunk + lane() * 8;
    if (at + 8 <= vocab_) {
      load8(logits_ + at, x);
      return 8;
    }
#pragma unroll
    for (int i = 0; i < 8; ++i) {
      if (at + i < vocab_) x[i] = to_float(logits_[at + i]);
    }
    return ::max(0, vocab_ - at);
  }

  // The likeliest token: its key in the high half, its complement in the low one. 0 where a logit
  // is not finite.
  __device__ std::uint64_t likeliest() {
    std::uint64_t best = 0;
    bool bad = false;
    for (int c = warp(); c < chunks_; c += kWarps) {
      float x[8];
      const int n = load_chunk(c, x);
#pragma unroll
      for (int i = 0; i < 8; ++i) {
        if (i >= n) continue;
        bad |= !isfinite(x[i]);
        const auto token = static_cast<std::uint32_t>(c * kChunk + lane() * 8 + i);
        const std::uint64_t packed = std::uint64_t{key_of(x[i])} << 32 | (0xffffffffu - token);
        best = packed > best ? packed : best;
      }
    }
#pragma unroll
    for (int offset = 16; offset > 0; offset /= 2) {
      const std::uint64_t other = __shfl_xor_sync(0xffffffffu, best, offset);
      best = other > best ? other : best;
    }
    if (lane() == 0) s_.warps[warp()] = best;
    bad = __syncthreads_or(bad);
    best = s_.warps[0];
    for (int w = 1; w < kWarps; ++w) best = s_.warps[w] > best ? s_.warps[w] : best;
    __syncthreads();
    return bad ? 0 : best;
  }

  // The sum of weight(key, x) over all tokens; the sums of chunks stay behind for find_token.
  template <class Weight>
  __device__ std::uint64_t sum(const Weight& weight) {
    std::uint64_t mine = 0;
    for (int c = warp(); c < chunks_; c += kWarps) {
      const std::uint64_t chunk = warp_sum(lane_sum(c, weight));
      if (lane() == 0) s_.chunks[c] = chunk;
      mine += chunk;
    }
    if (lane() == 0) s_.warps[warp()] = mine;
    __syncthreads();
    std::uint64_t all = 0;
    for (int w = 0; w < kWarps; ++w) all += s_.warps[w];
    __syncthreads();
    return all;
  }

  // The first token, in order of ids, up to which the weights reach `target` (1 .. their sum).
  // REQUIRES: sum(weight) was the last call.
  template <class Weight>
  __device__ int find_token(const Weight& weight, std::uint64_t target) {
    const int t = static_cast<int>(threadIdx.x);
    search(t < chunks_ ? s_.chunks[t] : 0, target, t);
    const auto chunk = static_cast<int>(s_.found);
    const std::uint64_t rest = target - s_.before;
    __syncthreads();
    if (warp() == 0) {
      float x[8];
      const int n = load_chunk(chunk, x);
      const std::uint64_t own = lane_sum(chunk, weight);
      std::uint64_t before = warp_inclusive(own) - own;
      if (before < rest && rest <= before + own) {
#pragma unroll
        for (int i = 0; i < 8; ++i) {
          if (i >= n || before >= rest) continue;
          before += weight(key_of(x[i]), x[i]);
          if (before >= rest)
            s_.found = static_cast<std::uint64_t>(chunk * kChunk + lane() * 8 + i);
        }
      }
    }
    __syncthreads();
    return static_cast<int>(s_.found);
  }

  // A place in the order of likelihood: among the tokens with this key, the one at which `rest` is
  // reached.
  struct Place {
    std::uint32_t key;
    std::uint64_t rest;
  };

  // The first token, in order of likelihood, up to which the weights reach `target` (1 .. their
  // sum): the key digit by digit, from the weights of each digit's values.
  template <class Weight>
  __device__ Place select(const Weight& weight, std::uint64_t target) {
    std::uint32_t known = 0;  // the digits found so far
    int shift = 32;
#pragma unroll 1
    for (int digit = 0; digit < 3; ++digit) {
      const int bits = digit < 2 ? 11 : 10;
      const std::uint32_t mask = shift == 32 ? 0 : ~0u << shift;
      shift -= bits;
      for (int b = static_cast<int>(threadIdx.x); b < kBins; b += kThreads) s_.bins[b] = 0;
      __syncthreads();
      for (int c = warp(); c < chunks_; c += kWarps) {
        float x[8];
        const int n = load_chunk(c, x);
#pragma unroll
        for (int i = 0; i < 8; ++i) {
          if (i >= n) continue;
          const std::uint32_t key = key_of(x[i]);
          if ((key & mask) != known) continue;
          const std::uint64_t w = weight(key, x[i]);
          if (w == 0) continue;
          atomicAdd(
              reinterpret_cast<unsigned long long*>(&s_.bins[(key >> shift) & ((1u << bits) - 1)]),
              static_cast<unsigned long long>(w));
        }
      }
      __syncthreads();
      // Thread t has the bins 2047 - 2 t and below it: the likeliest first.
      const int high = kBins - 1 - 2 * static_cast<int>(threadIdx.x);
      const std::uint64_t first = s_.bins[high];
      search(first + s_.bins[high - 1], target, high);
      const auto pair = static_cast<int>(s_.found);
      const std::uint64_t upper = s_.bins[pair];
      target -= s_.before;
      const bool lower = target > upper;
      if (lower) target -= upper;
      known |= static_cast<std::uint32_t>(lower ? pair - 1 : pair) << shift;
      __syncthreads();
    }
    return {known, target};
  }

 private:
  __device__ static int lane() {
    return static_cast<int>(threadIdx.x % 32);
  }
  __device__ static int warp() {
    return static_cast<int>(threadIdx.x / 32);
  }
  __device__ static float to_float(float x) {
    return x;
  }
  template <class E>
  __device__ static float to_float(E x) {
    return ptx::to_float(x);
  }

  template <class Weight>
  __device__ std::uint64_t lane_sum(int chunk, const Weight& weight) const {
    float x[8];
    const int n = load_chunk(chunk, x);
    std::uint64_t sum = 0;
#pragma unroll
    for (int i = 0; i < 8; ++i) {
      if (i < n) sum += weight(key_of(x[i]), x[i]);
    }
    return sum;
  }

  // Over the threads' values in order: the thread at which the running sum reaches `target` leaves
  // its `name` in found and the sum before it in before.
  __device__ void search(std::uint64_t value, std::uint64_t target, int name) {
    const std::uint64_t inclusive = warp_inclusive(value);
    if (lane() == 31) s_.warps[warp()] = inclusive;
    __syncthreads();
    std::uint64_t before = inclusive - value;
    for (int w = 0; w < warp(); ++w) before += s_.warps[w];
    if (before < target && target <= before + value) {
      s_.found = static_cast<std::uint64_t>(name);
      s_.before = before;
    }
    __syncthreads();
  }

  Shared& s_;
  const T* logits_;
  int vocab_;
  int chunks_;
};

// floor(fraction * whole), the fraction in 2^-64.
__device__ std::uint64_t part_of(std::uint64_t fraction, std::uint64_t whole) {
  return __umul64hi(fraction, whole);
}

template <class T>
__global__ void __launch_bounds__(kThreads)
    sample_kernel(const SamplingArgs a, const std::uint64_t stream) {
  __shared__ Shared shared;
  ptx::let_next_kernel_start();
  ptx::wait_for_earlier_kernels();
  const SamplingRow& row = a.row[blockIdx.x];
  Sampler<T> sampler(a, shared);
  const std::uint64_t best = sampler.likeliest();
  if (best == 0) {
    if (threadIdx.x == 0) {
      a.token[blockIdx.x] = -1;
      a.logprob[blockIdx.x] = __uint_as_float(0x7fffffffu);
    }
    return;
  }
  const float largest = logit_of(static_cast<std::uint32_t>(best >> 32));
  const auto fixed = [](float x) { return static_cast<std::uint64_t>(exp2f(x) * kOne); };
  const auto unmodified = [&](std::uint32_t, float x) { return fixed((x - largest) * kLog2E); };
  const std::uint64_t all = sampler.sum(unmodified);

  std::uint32_t key = static_cast<std::uint32_t>(best >> 32);
  auto token = static_cast<int>(0xffffffffu - static_cast<std::uint32_t>(best));
  if (row.temperature > 0) {
    const auto scale = static_cast<float>(double{kLog2E} / row.temperature);
    const auto mass = [&](std::uint32_t, float x) { return fixed((x - largest) * scale); };
    const std::uint64_t uniform = uniform_bits(stream, row);
    if (row.top_k <= 0 && row.top_p >= 1) {
      const std::uint64_t sum = sampler.sum(mass);
      token = sampler.find_token(mass, part_of(uniform, sum) + 1);
    } else {
      std::uint64_t kept = 0;  // mass of the tokens to draw from
      if (row.top_k > 0) {
        const auto one = [](std::uint32_t, float) { return std::uint64_t{1}; };
        const auto last = sampler.select(
            one, static_cast<std::uint64_t>(row.top_k < a.vocab ? row.top_k : a.vocab));
        const auto above = [&](std::uint32_t k, float x) {
          return k > last.key ? mass(k, x) : std::uint64_t{0};
        };
        kept = sampler.sum(above) + last.rest * mass(last.key, logit_of(last.key));
      } else {
        kept = sampler.sum(mass);
      }
      if (row.top_p < 1) {
        const double wanted = ceil(row.top_p * static_cast<double>(kept));
        const std::uint64_t target =
            wanted < 1 ? 1 : ::min(kept, static_cast<std::uint64_t>(wanted));
        const auto last = sampler.select(mass, target);
        const std::uint64_t each = mass(last.key, logit_of(last.key));
        kept = target - last.rest + (last.rest + each - 1) / each * each;
      }
      const auto drawn = sampler.select(mass, part_of(uniform, kept) + 1);
      const std::uint64_t each = mass(drawn.key, logit_of(drawn.key));
      const auto same = [&](std::uint32_t k, float) { return std::uint64_t{k == drawn.key}; };
      sampler.sum(same);
      token = sampler.find_token(same, (drawn.rest + each - 1) / each);
    }
    const T x = (static_cast<const T*>(a.logits) + blockIdx.x * a.logits_stride)[token];
    key = key_of(static_cast<float>(x));
  }
  if (threadIdx.x == 0) {
    a.token[blockIdx.x] = token;
    a.logprob[blockIdx.x] = static_cast<float>(double{logit_of(key)} - double{largest} -
                                               log(static_cast<double>(all) / double{kOne}));
  }
}

}  // namespace

void sample_tokens(const SamplingArgs& a, cudaStream_t stream, Dependent dependent) {
  constexpr const char* kName = "sample_tokens";
  require(a.vocab > 0 && a.vocab <= kMaxChunks * kChunk, kName, "vocabulary of more than 262144");
  require(a.logits_stride % 8 == 0, kName, "logits_stride is not a multiple of 8 elements");
  if (a.rows == 0) return;
  const LaunchShape shape{.grid = static_cast<unsigned>(a.rows),
                          .block = kThreads,
                          .dependent = dependent == Dependent::yes};
  const std::uint64_t seed = mix64(a.seed ^ hash_name("token sampling"));
  if (a.dtype == DType::f32) {
    launch(kName, sample_kernel<float>, shape, stream, a, seed);
  } else {
    with_dtype(a.dtype, kName,
               [&]<class T>() { launch(kName, sample_kernel<T>, shape, stream, a, seed); });
  }
}

}  // namespace kvstow::kernels::cuda
