// bench_kernels: kernels on one GPU, against the memory's own limit. Google Benchmark's options;
// every row has manual time (the median launch of a chain) and its spread as counters.
#include <benchmark/benchmark.h>

#include <cstdio>
#include <exception>

#include "bench/kernels_cuda/lab.h"

int main(int argc, char** argv) {
  using namespace kvstow;
  if (!kernels::cuda::testing::have_device()) {
    std::puts("skipped: no CUDA device");
    return 0;
  }
  try {
    cudaDeviceProp device{};
    int driver = 0;
    KVSTOW_CUDA(cudaGetDeviceProperties(&device, 0));
    KVSTOW_CUDA(cudaDriverGetVersion(&driver));
    benchmark::AddCustomContext("device", device.name);
    benchmark::AddCustomContext("multiprocessors", std::to_string(device.multiProcessorCount));
    benchmark::AddCustomContext("cuda_driver", std::to_string(driver));
    benchmark::AddCustomContext("cuda_toolkit", std::to_string(CUDART_VERSION));
    bench::register_floor_benchmarks();
    bench::register_decode_benchmarks();
    bench::register_prefill_benchmarks();
    bench::register_cache_benchmarks();
    bench::register_layer_benchmarks();
    bench::register_museum_benchmarks();
    bench::register_affine_benchmarks();
    benchmark::Initialize(&argc, argv);
    if (benchmark::ReportUnrecognizedArguments(argc, argv)) return 2;
    benchmark::RunSpecifiedBenchmarks();
  } catch (const std::exception& e) {
    std::fprintf(stderr, "bench_kernels: %s\n", e.what());
    return 1;
  }
  return 0;
}
