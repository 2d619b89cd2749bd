#include "bench/kernels_cuda/lab.h"

#include "bench/kernels_cuda/plain.h"
#include "kernels/cuda/decode_attention.h"

namespace kvstow::bench {

Lab::Lab() : sms(kernels::cuda::device_blocks()), sink_(64) {
  KVSTOW_CUDA(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking));
}

Lab& Lab::get() {
  static Lab lab;
  return lab;
}

std::uint16_t* Lab::numbers(std::size_t bytes) {
  if (numbers_.size() * 2 < bytes) {
    numbers_ = {};
    numbers_ = kernels::cuda::testing::DeviceArray<std::uint16_t>(bytes / 2);
    kernels::cuda::testing::fill_uniform(numbers_.get(), numbers_.size(), kernels::DType::f16, 1,
                                         17, stream);
    KVSTOW_CUDA(cudaStreamSynchronize(stream));
  }
  return numbers_.get();
}

double Lab::empty_launch_us() {
  if (!empty_) {
    empty_.emplace(512, stream, [&](int, cudaStream_t s) { empty_launch(sms, false, s); });
  }
  return empty_->time(1, 5).median_us;
}

void Lab::settle_launches() {
  for (cudaStream_t& other : others_) {
    if (other == nullptr) KVSTOW_CUDA(cudaStreamCreateWithFlags(&other, cudaStreamNonBlocking));
    empty_launch(1, false, other);
  }
  KVSTOW_CUDA(cudaDeviceSynchronize());
}

const Lab::ReadTime& Lab::plain_read(std::size_t bytes) {
  ReadTime& read = reads_[bytes];
  settle_launches();
  double now = empty_launch_us();
  for (int i = 0; i < 3 && !same_launches(read.empty_us, now); ++i) {
    read = {measure_read(bytes), now};
    settle_launches();
    now = empty_launch_us();
  }
  return read;
}

ChainTime Lab::measure_read(std::size_t bytes) {
  const int launches = chain_launches(static_cast<double>(bytes));
  const auto* data = reinterpret_cast<const unsigned char*>(numbers(bytes * launches));
  ChainTime best{1e30, 1e30, 1e30, 0};
  for (const PlainRead& read : plain_reads()) {
    const ChainTime t = time_chain(launches, stream, [&](int i, cudaStream_t s) {
      read.launch(data + i * bytes, bytes, sink_.get(), sms, s);
    });
    if (t.median_us < best.median_us) best = t;
  }
  return best;
}

void add_row(const std::string& name, const std::function<void(benchmark::State&)>& run) {
  benchmark::RegisterBenchmark(name.c_str(), run)
      ->UseManualTime()
      ->Iterations(1)
      ->Unit(benchmark::kMicrosecond);
}

void report(benchmark::State& state, const ChainTime& time) {
  state.SetIterationTime(time.median_us * 1e-6);
  state.counters["median_us"] = time.median_us;
  state.counters["low_us"] = time.low_us;
  state.counters["high_us"] = time.high_us;
  state.counters["launches"] = time.launches;
}

void report_over_read(benchmark::State& state, const ChainTime& time, const ChainTime& read,
                      std::size_t bytes) {
  report(state, time);
  state.counters["bytes"] = static_cast<double>(bytes);
  state.counters["read_us"] = read.median_us;
  state.counters["over_read"] = time.median_us / read.median_us;
}

}  // namespace kvstow::bench
