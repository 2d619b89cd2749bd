// The rulers themselves: launch floor, plain reads by size, plain copies, the large ceilings.
#include <string>

#include "bench/kernels_cuda/lab.h"
#include "bench/kernels_cuda/plain.h"

namespace kvstow::bench {

void register_floor_benchmarks() {
  for (const bool dependent : {false, true}) {
    add_row(std::string("empty_launch/") + (dependent ? "dependent" : "full_dependency"),
            [=](benchmark::State& state) {
              Lab& lab = Lab::get();
              for (auto _ : state) {
                report(state, time_chain(1024, lab.stream, [&](int, cudaStream_t s) {
                         empty_launch(lab.sms, dependent, s);
                       }));
              }
            });
  }
  for (const char* repeat : {"a", "b"}) {
    add_row(std::string("large_read/") + repeat, [](benchmark::State& state) {
      constexpr std::size_t kBytes = std::size_t{4295} << 20;
      for (auto _ : state) {
        const ChainTime t = Lab::get().measure_read(kBytes);  // afresh: a against b is the noise
        report(state, t);
        state.counters["gb_per_s"] = kBytes / t.median_us / 1e3;
      }
    });
  }
  for (const int megabytes : {1, 4, 16, 64, 256, 2048}) {
    add_row("plain_copy/" + std::to_string(megabytes) + "MB", [=](benchmark::State& state) {
      Lab& lab = Lab::get();
      const std::size_t bytes = std::size_t(megabytes) << 20;
      const int launches = chain_launches(2.0 * static_cast<double>(bytes));
      auto* data = reinterpret_cast<unsigned char*>(lab.numbers(2 * bytes * launches));
      for (auto _ : state) {
        const ChainTime t = time_chain(launches, lab.stream, [&](int i, cudaStream_t s) {
          plain_copy(data + 2 * i * bytes, data + (2 * i + 1) * bytes, bytes, lab.sms, s);
        });
        report(state, t);
        state.counters["gb_per_s"] = 2.0 * static_cast<double>(bytes) / t.median_us / 1e3;
      }
    });
  }
}

}  // namespace kvstow::bench
