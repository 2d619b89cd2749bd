#include "core/rng.h"
#include "kernels/cuda/elements.cuh"
#include "kernels/cuda/launch.h"
#include "kernels/cuda/sampling.h"

namespace kvstow::kernels::cuda {
namespace {

constexpr int kThreads = 1024;
constexpr int kWarps = kThreads / 32;
constexpr int kVectors = 4;             // of 8 neighbouring tokens, in flight in each lane
constexpr int kChunk = kVectors * 256;  // neighbouring tokens, a warp's work at a time
constexpr int kMaxChunks = 256;
constexpr int kBins = 2048;
constexpr float kBinsPerUnit = 64;  // of logits below the largest one
constexpr float kLog2E = 1.4426950408889634f;
constexpr float kOne = 0x1p31f;  // probability 1 (of the likeliest token) in fixed point

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
  std::uint32_t bins[3][kBins];  // sums of the weights' bits 0-13, 14-27 and 28-31: 32-bit atomics
  std::uint64_t warps[kWarps];
  std::uint64_t found;  // what a search hands to everyone
  std::uint64_t before;
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

  // visit(token, logit) for every token.
  template <class Visit>
  __device__ void for_each(const Visit& visit) const {
    for (int c = warp(); c < chunks_; c += kWarps) visit_chunk(c, visit);
  }

  // The largest logit; NaN where one is not finite.
  __device__ float largest() {
    float most = -INFINITY;
    float zero = 0;  // NaN as soon as it has met something that is not finite
    for_each([&](int, float x) {
      most = fmaxf(most, x);
      zero = fmaf(x, 0.0f, zero);
    });
    const std::uint64_t key = isnan(zero) ? ~0ULL : key_of(most);
    const auto all = block_max(key);
    return all == ~0ULL ? NAN : logit_of(static_cast<std::uint32_t>(all));
  }

  // The smallest token with this logit.
  __device__ int first_with(float logit) {
    std::uint32_t last = 0;  // complement of the token, so that the largest wins
    for_each([&](int token, float x) {
      if (x == logit) last = ::max(last, ~static_cast<std::uint32_t>(token));
    });
    return static_cast<int>(~static_cast<std::uint32_t>(block_max(last)));
  }

  // The sum of weight(logit) over all tokens; the sums of chunks stay behind for find_token.
  template <class Weight>
  __device__ std::uint64_t sum(const Weight& weight) {
    std::uint64_t mine = 0;
    for (int c = warp(); c < chunks_; c += kWarps) {
      std::uint64_t chunk = 0;
      visit_chunk(c, [&](int, float x) { chunk += weight(x); });
      chunk = warp_sum(chunk);
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
    std::uint64_t before = s_.before;
    __syncthreads();
    if (warp() == 0) {
#pragma unroll 1
      for (int v = 0; v < kVectors; ++v) {
        const int at = chunk * kChunk + v * 256 + lane() * 8;
        std::uint64_t own = 0;
        visit_vector(at, [&](int, float x) { own += weight(x); });
        const std::uint64_t inclusive = before + warp_inclusive(own);
        std::uint64_t running = inclusive - own;
        if (running < target && target <= inclusive) {
          visit_vector(at, [&](int token, float x) {
            const std::uint64_t next = running + weight(x);
            if (running < target && target <= next) s_.found = static_cast<std::uint64_t>(token);
            running = next;
          });
        }
        before = __shfl_sync(0xffffffffu, inclusive, 31);
      }
    }
    __syncthreads();
    return static_cast<int>(s_.found);
  }

  // A place in the order of likelihood: among the tokens with this logit, the one at which `rest`
  // is reached.
  struct Place {
    float logit;
    std::uint64_t rest;
  };

  // The first token, in order of likelihood, up to which the weights reach `target` (1 .. their
  // sum). By the weights of bins: first of the distance to the largest logit, where tokens spread
  // well, then within one of those of the digits of the key.
  template <class Weight>
  __device__ Place select(const Weight& weight, float largest, std::uint64_t target) {
    const auto bin_of = [&](float x) {
      return static_cast<int>(fminf((largest - x) * kBinsPerUnit, kBins - 1.0f));
    };
    const int bin = select_bin(target, [&](float x, int& place) {
      place = bin_of(x);
      return weight(x);
    });
    std::uint32_t known = 0;  // the digits found so far
    int shift = 32;
#pragma unroll 1
    for (int digit = 0; digit < 3; ++digit) {
      const std::uint32_t mask = digit == 0 ? 0 : ~0u << shift;
      const std::uint32_t digits = digit < 2 ? (1u << 11) - 1 : (1u << 10) - 1;
      shift = digit < 2 ? shift - 11 : 0;
      const int place = select_bin(target, [&](float x, int& to) -> std::uint64_t {
        const std::uint32_t key = key_of(x);
        if ((key & mask) != known || bin_of(x) != bin) return 0;
        to = static_cast<int>(digits - (key >> shift & digits));
        return weight(x);
      });
      known |= (digits - static_cast<std::uint32_t>(place)) << shift;
    }
    return {logit_of(known), target};
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

  template <class Visit>
  __device__ void visit_vector(int at, const Visit& visit) const {
    if (at + 8 <= vocab_) {
      float x[8];
      load8(logits_ + at, x);
#pragma unroll
      for (int i = 0; i < 8; ++i) visit(at + i, x[i]);
    } else {
      for (int token = at; token < vocab_; ++token) visit(token, to_float(logits_[token]));
    }
  }

  // Several loads are in flight before the first visit.
  template <class Visit>
  __device__ void visit_chunk(int chunk, const Visit& visit) const {
    constexpr int kInFlight = sizeof(T) == 2 ? kVectors : kVectors / 2;
    const int at = chunk * kChunk + lane() * 8;
    if ((chunk + 1) * kChunk > vocab_) {
#pragma unroll 1
      for (int v = 0; v < kVectors; ++v) visit_vector(at + v * 256, visit);
      return;
    }
#pragma unroll 1
    for (int first = 0; first < kVectors; first += kInFlight) {
      uint4 raw[kInFlight][sizeof(T) / 2];
#pragma unroll
      for (int v = 0; v < kInFlight; ++v) {
        const auto* from = reinterpret_cast<const uint4*>(logits_ + at + (first + v) * 256);
#pragma unroll
        for (std::size_t i = 0; i < sizeof(T) / 2; ++i) raw[v][i] = from[i];
      }
#pragma unroll
      for (int v = 0; v < kInFlight; ++v) {
        const T* x = reinterpret_cast<const T*>(raw[v]);
#pragma unroll
        for (int i = 0; i < 8; ++i) visit(at + (first + v) * 256 + i, to_float(x[i]));
      }
    }
  }

  __device__ std::uint64_t block_max(std::uint64_t x) {
#pragma unroll
    for (int offset = 16; offset > 0; offset /= 2) {
      x = ::max(x, __shfl_xor_sync(0xffffffffu, x, offset));
    }
    if (lane() == 0) s_.warps[warp()] = x;
    __syncthreads();
    for (int w = 0; w < kWarps; ++w) x = ::max(x, s_.warps[w]);
    __syncthreads();
    return x;
  }

  __device__ std::uint64_t weight_of_bin(int b) const {
    return s_.bins[0][b] + (std::uint64_t{s_.bins[1][b]} << 14) +
           (std::uint64_t{s_.bins[2][b]} << 28);
  }

  // The bin in which the running sum over bins reaches `target`, which becomes what is left of it
  // there. contribution(logit, bin&) gives a token's weight (at most 2^31) and, unless that is 0,
  // its bin.
  template <class Contribution>
  __device__ int select_bin(std::uint64_t& target, const Contribution& contribution) {
    for (int b = static_cast<int>(threadIdx.x); b < 3 * kBins; b += kThreads)
      (&s_.bins[0][0])[b] = 0;
    __syncthreads();
    for_each([&](int, float x) {
      int bin = 0;
      const auto w = static_cast<std::uint32_t>(contribution(x, bin));
      const std::uint32_t parts[3] = {w & 0x3fff, w >> 14 & 0x3fff, w >> 28};
#pragma unroll
      for (int i = 0; i < 3; ++i) {
        if (parts[i] > 0) atomicAdd(&s_.bins[i][bin], parts[i]);
      }
    });
    __syncthreads();
    const int first = 2 * static_cast<int>(threadIdx.x);
    search(weight_of_bin(first) + weight_of_bin(first + 1), target, first);
    int bin = static_cast<int>(s_.found);
    target -= s_.before;
    if (target > weight_of_bin(bin)) target -= weight_of_bin(bin++);
    __syncthreads();
    return bin;
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
  const float largest = sampler.largest();
  if (isnan(largest)) {
    if (threadIdx.x == 0) {
      a.token[blockIdx.x] = -1;
      if (a.logprob) a.logprob[blockIdx.x] = NAN;
    }
    return;
  }
  const auto fixed = [](float log2) -> std::uint64_t {
    return __float2uint_rz(ptx::exp2_fast(log2) * kOne);
  };
  int token = 0;
  if (row.temperature == 0) {
    token = sampler.first_with(largest);
  } else {
    const auto scale = static_cast<float>(double{kLog2E} / row.temperature);
    const auto mass = [&](float x) { return fixed((x - largest) * scale); };
    const std::uint64_t uniform = uniform_bits(stream, row);
    std::uint64_t kept = 0;   // mass of the tokens to draw from
    float least = -INFINITY;  // logit of the last of them
    const auto kept_mass = [&](float x) { return x >= least ? mass(x) : 0; };
    if (row.top_k <= 0) {
      kept = sampler.sum(mass);
    } else {
      const auto last = sampler.select([](float) { return std::uint64_t{1}; }, largest,
                                       static_cast<std::uint64_t>(::min(row.top_k, a.vocab)));
      least = last.logit;
      kept =
          sampler.sum([&](float x) { return x > least ? mass(x) : 0; }) + last.rest * mass(least);
    }
    if (row.top_k <= 0 && row.top_p >= 1) {
      token = sampler.find_token(mass, part_of(uniform, kept) + 1);
    } else {
      if (row.top_p < 1) {
        const double wanted = ceil(row.top_p * static_cast<double>(kept));
        const std::uint64_t target =
            wanted < 1 ? 1 : ::min(kept, static_cast<std::uint64_t>(wanted));
        const auto last = sampler.select(kept_mass, largest, target);
        const std::uint64_t each = mass(last.logit);
        least = last.logit;
        kept = target - last.rest + (last.rest + each - 1) / each * each;
      }
      const auto drawn = sampler.select(kept_mass, largest, part_of(uniform, kept) + 1);
      const std::uint64_t each = mass(drawn.logit);
      const auto same = [&](float x) { return std::uint64_t{x == drawn.logit}; };
      sampler.sum(same);
      token = sampler.find_token(same, (drawn.rest + each - 1) / each);
    }
  }
  if (a.logprob) {
    const std::uint64_t all = sampler.sum([&](float x) { return fixed((x - largest) * kLog2E); });
    if (threadIdx.x == 0) {
      const T x = (static_cast<const T*>(a.logits) + blockIdx.x * a.logits_stride)[token];
      a.logprob[blockIdx.x] = static_cast<float>(double{static_cast<float>(x)} - double{largest} -
                                                 log(static_cast<double>(all) / double{kOne}));
    }
  }
  if (threadIdx.x == 0) a.token[blockIdx.x] = token;
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
