// What the kernel benchmarks share: one buffer of random K and V, one stream, the plain reads.
#pragma once

#include <benchmark/benchmark.h>
#include <cuda_runtime_api.h>

#include <cstddef>
#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "bench/kernels_cuda/chain.h"
#include "tests/cuda/device_case.h"

namespace kvstow::bench {

class Lab {
 public:
  static Lab& get();

  // At least `bytes` of f16 numbers, uniform with unit variance.
  std::uint16_t* numbers(std::size_t bytes);
  // The best plain read of that many bytes, in a chain of its own over the same buffer; measured
  // once a process, or afresh.
  ChainTime plain_read(std::size_t bytes);
  ChainTime measure_read(std::size_t bytes);

  cudaStream_t stream = nullptr;
  int sms = 0;

 private:
  Lab();
  kernels::cuda::testing::DeviceArray<std::uint16_t> numbers_;
  kernels::cuda::testing::DeviceArray<unsigned> sink_;
  std::map<std::size_t, ChainTime> reads_;
};

struct ModelShape {
  const char* name;
  int heads;
  int kv_heads;
  int head_dim;
};

inline constexpr ModelShape kOpt13b{"opt-13b", 40, 40, 128};
inline constexpr ModelShape kLlama3{"llama-3-8b", 32, 8, 128};
inline constexpr ModelShape kQwen3{"qwen3-0.6b", 16, 8, 128};
inline constexpr ModelShape kGroup8{"group-8", 8, 1, 128};

// Puts a measurement into a benchmark's row: manual time, and the rest as counters.
void report(benchmark::State& state, const ChainTime& time);

void register_floor_benchmarks();
void register_decode_benchmarks();
void register_prefill_benchmarks();
void register_cache_benchmarks();
void register_layer_benchmarks();
void register_museum_benchmarks();
void register_affine_benchmarks();

}  // namespace kvstow::bench
