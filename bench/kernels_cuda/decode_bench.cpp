// Decode attention: every cell of the anchors (three models, five batches, five contexts), a group
// of 8, ragged batches, with and without programmatic dependent launch, and the two maps in pairs.
#include <algorithm>
#include <string>

#include "bench/kernels_cuda/decode_case.h"
#include "core/rng.h"

namespace kvstow::bench {
namespace {

namespace cuda = kernels::cuda;

constexpr int kBlockTokens = 16;

void check(benchmark::State& state, double error) {
  state.counters["relative_l2"] = error;
  if (!(error <= 7e-4)) state.SkipWithError("wrong result");
}

// After a process has run a few dozen kernels, a plain read takes 0.17 us longer than in the
// beginning, for good and at every size, but a dependent launch does not. Neither the clock nor the
// buffer nor the division of L1 is the reason; so nothing is timed before.
void warm_up() {
  static const bool done = [] {
    for (const int batch : {1, 8, 1, 8}) {
      for (const int context : {128, 512, 2048}) {
        DecodeCase c(kLlama3, std::vector<std::int32_t>(static_cast<std::size_t>(batch), context),
                     kBlockTokens);
        c.error(c.table_map);
        time_chain(c.launches, Lab::get().stream, [&](int layer, cudaStream_t stream) {
          c.launch(c.table_map, layer, cuda::Dependent::yes, stream);
        });
      }
    }
    return true;
  }();
  static_cast<void>(done);
}

void run_cell(benchmark::State& state, const ModelShape& model,
              const std::vector<std::int32_t>& lengths, cuda::Dependent dependent) {
  warm_up();
  for (auto _ : state) {
    DecodeCase c(model, lengths, kBlockTokens);
    check(state, c.error(c.table_map));
    const ChainTime read = Lab::get().plain_read(c.bytes);
    const ChainTime time = time_chain(
        c.launches, Lab::get().stream,
        [&](int layer, cudaStream_t stream) { c.launch(c.table_map, layer, dependent, stream); });
    report(state, time);
    state.counters["bytes"] = static_cast<double>(c.bytes);
    state.counters["read_us"] = read.median_us;
    state.counters["over_read"] = time.median_us / read.median_us;
  }
}

// The price of the block table: both maps' chains replayed in turn, the ratio of each pair.
void run_pair(benchmark::State& state, const ModelShape& model,
              const std::vector<std::int32_t>& lengths) {
  constexpr int kPairs = 11;
  for (auto _ : state) {
    DecodeCase c(model, lengths, kBlockTokens);
    check(state, std::max(c.error(c.table_map), c.error(c.affine_map)));
    cudaStream_t stream = Lab::get().stream;
    Chain table(c.launches, stream, [&](int layer, cudaStream_t s) {
      c.launch(c.table_map, layer, cuda::Dependent::yes, s);
    });
    Chain affine(c.launches, stream, [&](int layer, cudaStream_t s) {
      c.launch(c.affine_map, layer, cuda::Dependent::yes, s);
    });
    for (int i = 0; i < 3; ++i) {
      table.replay();
      affine.replay();
    }
    std::vector<double> ratios;
    std::vector<double> times;
    for (int i = 0; i < kPairs; ++i) {
      // The order alternates too.
      const double first = i % 2 ? affine.replay() : table.replay();
      const double second = i % 2 ? table.replay() : affine.replay();
      ratios.push_back(i % 2 ? second / first : first / second);
      times.push_back(i % 2 ? second : first);
    }
    std::sort(ratios.begin(), ratios.end());
    std::sort(times.begin(), times.end());
    report(state, {times[kPairs / 2], times.front(), times.back(), c.launches});
    state.counters["bytes"] = static_cast<double>(c.bytes);
    state.counters["table_over_affine"] = ratios[kPairs / 2];
    state.counters["ratio_low"] = ratios.front();
    state.counters["ratio_high"] = ratios.back();
  }
}

// The planning kernel of a step.
void run_plan(benchmark::State& state, const ModelShape& model,
              const std::vector<std::int32_t>& lengths) {
  constexpr int kPlans = 100;
  for (auto _ : state) {
    const DecodeCase c(model, lengths, kBlockTokens);
    report(state, time_chain(kPlans, Lab::get().stream,
                             [&](int, cudaStream_t stream) { c.plan(stream); }));
  }
}

std::vector<std::int32_t> ragged(int rows, int shortest, int longest) {
  std::vector<std::int32_t> lengths;
  RandomStream random(9, "ragged");
  for (int i = 0; i < rows; ++i) {
    lengths.push_back(shortest + static_cast<std::int32_t>(random.below(
                                     static_cast<std::uint32_t>(longest - shortest + 1))));
  }
  return lengths;
}

void add(const std::string& name, const std::function<void(benchmark::State&)>& run) {
  benchmark::RegisterBenchmark(name.c_str(), run)
      ->UseManualTime()
      ->Iterations(1)
      ->Unit(benchmark::kMicrosecond);
}

}  // namespace

void register_decode_benchmarks() {
  for (const ModelShape& model : {kOpt13b, kLlama3, kQwen3, kGroup8}) {
    for (const int batch : {1, 8, 32, 64, 256}) {
      for (const int context : {128, 512, 1024, 2048, 8192}) {
        const std::vector<std::int32_t> lengths(static_cast<std::size_t>(batch), context);
        const std::string cell =
            std::string(model.name) + "/" + std::to_string(batch) + "/" + std::to_string(context);
        add("decode/" + cell,
            [=](benchmark::State& s) { run_cell(s, model, lengths, cuda::Dependent::yes); });
        add("decode_full_dependency/" + cell,
            [=](benchmark::State& s) { run_cell(s, model, lengths, cuda::Dependent::no); });
        add("decode_map_price/" + cell, [=](benchmark::State& s) { run_pair(s, model, lengths); });
      }
    }
  }
  for (const ModelShape& model : {kGroup8, kLlama3, kOpt13b}) {
    for (const int batch : {32, 256}) {
      const std::vector<std::int32_t> lengths = ragged(batch, 64, 1984);
      add("decode_ragged/" + std::string(model.name) + "/" + std::to_string(batch),
          [=](benchmark::State& s) { run_cell(s, model, lengths, cuda::Dependent::yes); });
    }
  }
  // As in the middle of nano-vLLM's benchmark.
  const std::vector<std::int32_t> nano = ragged(256, 100, 1500);
  add("decode_ragged_100_1500/qwen3-0.6b/256",
      [=](benchmark::State& s) { run_cell(s, kQwen3, nano, cuda::Dependent::yes); });
  for (const ModelShape& model : {kQwen3, kOpt13b}) {
    add("decode_plan/" + std::string(model.name) + "/256",
        [=](benchmark::State& s) { run_plan(s, model, nano); });
  }
}

}  // namespace kvstow::bench
