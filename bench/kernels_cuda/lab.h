// What the kernel benchmarks share: one buffer of random K and V, one stream, the plain reads.
#pragma once

#include <benchmark/benchmark.h>
#include <cuda_runtime_api.h>

#include <array>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <string>

#include "bench/kernels_cuda/chain.h"
#include "tests/cuda/device_case.h"

namespace kvstow::bench {

class Lab {
 public:
  static Lab& get();

  // At least `bytes` of f16 numbers, uniform with unit variance.
  std::uint16_t* numbers(std::size_t bytes);
  // Microseconds of an empty launch in a chain, now. Launches have two lengths 0.18 us apart, all
  // of them the one or the other for seconds on end (kernels/README.md, "Plain reads"). They have
  // the longer one after settle_launches(), which launches on many streams.
  double empty_launch_us();
  void settle_launches();
  // The best plain read of that many bytes, in a chain of its own over the same buffer, and the
  // empty launch beside it. Measured again where launches have the other length now.
  struct ReadTime {
    ChainTime time;
    double empty_us;
  };
  const ReadTime& plain_read(std::size_t bytes);
  ChainTime measure_read(std::size_t bytes);

  cudaStream_t stream = nullptr;
  int sms = 0;

 private:
  Lab();
  kernels::cuda::testing::DeviceArray<std::uint16_t> numbers_;
  kernels::cuda::testing::DeviceArray<unsigned> sink_;
  std::map<std::size_t, ReadTime> reads_;
  std::optional<Chain> empty_;
  std::array<cudaStream_t, 32> others_{};
};

// Whether two empty launches had the same length.
inline bool same_launches(double one_us, double other_us) {
  return std::abs(one_us - other_us) < 0.09;
}

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

// A row of the suite: `run` reports one measurement.
void add_row(const std::string& name, const std::function<void(benchmark::State&)>& run);

// Puts a measurement into a benchmark's row: manual time, and the rest as counters.
void report(benchmark::State& state, const ChainTime& time);
// Likewise, beside a plain read of the same bytes.
void report_over_read(benchmark::State& state, const ChainTime& time, const ChainTime& read,
                      std::size_t bytes);

void register_floor_benchmarks();
void register_decode_benchmarks();
void register_prefill_benchmarks();
void register_cache_benchmarks();
void register_layer_benchmarks();
void register_museum_benchmarks();
void register_affine_benchmarks();

}  // namespace kvstow::bench
