#include "core/rng.h"
#include "kernels/cuda/launch.h"
#include "kernels/cuda/sampling.h"
#include "kernels/cuda/sampling_one_pass.cuh"
#include "kernels/cuda/sampling_passes.cuh"

namespace kvstow::kernels::cuda {
namespace {

using namespace sampling;

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

template <class T>
__global__ void __launch_bounds__(kThreads)
    sample_kernel(const SamplingArgs a, const std::uint64_t stream) {
  __shared__ Shared shared;
  ptx::let_next_kernel_start();
  ptx::wait_for_earlier_kernels();
  const SamplingRow& row = a.row[blockIdx.x];
  const auto finish = [&](int token, float logprob) {
    if (threadIdx.x > 0) return;
    a.token[blockIdx.x] = token;
    if (a.next_token) a.next_token[blockIdx.x] = token;
    if (a.logprob) a.logprob[blockIdx.x] = logprob;
    if (a.ended && atomicAdd(a.rows_done, 1u) == gridDim.x - 1) {
      *a.rows_done = 0;
      *a.ended = ptx::nanoseconds();
    }
  };
  if (row.candidates > 0) return finish(0, NAN);
  const auto scale = static_cast<float>(double{kLog2E} / row.temperature);
  if (row.temperature > 0 && row.top_k <= 0 && row.top_p >= 1) {
    const auto drawn = OnePass<T>(a.logits, a.logits_stride, a.vocab, shared)
                           .draw(scale, uniform_bits(stream, row));
    return finish(drawn.token, drawn.logprob);
  }
  Sampler<T> sampler(a.logits, a.logits_stride, a.vocab, shared);
  const float largest = sampler.largest();
  if (isnan(largest)) return finish(-1, NAN);
  int token = 0;
  if (row.temperature == 0) {
    token = sampler.first_with(largest);
  } else {
    const auto mass = [&](float x) -> std::uint64_t { return fixed((x - largest) * scale); };
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
    if (row.top_p < 1) {
      const double wanted = ceil(row.top_p * static_cast<double>(kept));
      const std::uint64_t target = wanted < 1 ? 1 : ::min(kept, static_cast<std::uint64_t>(wanted));
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
  float logprob = 0;
  if (a.logprob) {
    const std::uint64_t all =
        sampler.sum([&](float x) -> std::uint64_t { return fixed((x - largest) * kLog2E); });
    logprob = static_cast<float>(double{sampler.logit(token)} - double{largest} -
                                 log(static_cast<double>(all) / double{kOne}));
  }
  finish(token, logprob);
}

}  // namespace

void sample_tokens(const SamplingArgs& a, cudaStream_t stream, Dependent dependent) {
  constexpr const char* kName = "sample_tokens";
  require(a.vocab > 0 && a.vocab <= kMostTokens, kName, "vocabulary of more than 262144");
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
