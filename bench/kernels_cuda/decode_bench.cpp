// Decode attention: every cell of the anchors (three models, five batches, five contexts), a group
// of 8, ragged batches, with and without programmatic dependent launch, and the two maps in pairs.
#include <algorithm>
#include <memory>
#include <numeric>
#include <string>

#include "bench/kernels_cuda/decode_case.h"
#include "bench/kernels_cuda/page_read.h"
#include "core/rng.h"

namespace kvstow::bench {
namespace {

namespace cuda = kernels::cuda;

constexpr int kBlockTokens = 16;

void check(benchmark::State& state, double error) {
  state.counters["relative_l2"] = error;
  if (!(error <= 7e-4)) state.SkipWithError("wrong result");
}

// Keeps the device busy for 20 ms before anything is timed: after the allocations of a new case it
// has idled, and short chains with the host's work between them do not wake it up.
void wake_up(const DecodeCase& c) {
  Chain chain(c.launches, Lab::get().stream, [&](int layer, cudaStream_t stream) {
    c.launch(c.table_map, layer, cuda::Dependent::yes, stream);
  });
  for (double us = 0; us < 20e3;) us += chain.replay() * c.launches;
  Lab::get().settle_launches();
}

void run_cell(benchmark::State& state, const ModelShape& model,
              const std::vector<std::int32_t>& lengths, cuda::Dependent dependent) {
  for (auto _ : state) {
    DecodeCase c(model, lengths, kBlockTokens);
    check(state, c.error(c.table_map));
    wake_up(c);
    Lab& lab = Lab::get();
    Lab::ReadTime read{};
    ChainTime time{};
    double empty_us = -1;  // after the cell: it and its read are compared in one state of launches
    for (int i = 0; i < 3 && !same_launches(read.empty_us, empty_us); ++i) {
      read = lab.plain_read(c.bytes);
      time = time_chain(c.launches, lab.stream, [&](int layer, cudaStream_t stream) {
        c.launch(c.table_map, layer, dependent, stream);
      });
      empty_us = lab.empty_launch_us();
    }
    report_over_read(state, time, read.time, c.bytes);
    state.counters["empty_us"] = empty_us;
    state.counters["read_empty_us"] = read.empty_us;
  }
}

// 0, 1, 2, ...: the blocks of rows of one length, side by side.
std::vector<std::int32_t> counted(std::int64_t blocks) {
  std::vector<std::int32_t> ids(static_cast<std::size_t>(blocks));
  std::iota(ids.begin(), ids.end(), 0);
  return ids;
}

// Two chains replayed in turn, the order alternating too.
struct Pair {
  Chain& one;
  Chain& other;
  std::vector<double> ratios = {};  // other / one
  std::vector<double> times = {};   // of the other

  void replay(int i) {
    const double first = (i % 2 ? one : other).replay();
    const double second = (i % 2 ? other : one).replay();
    if (i < 0) return;  // to warm up
    ratios.push_back(i % 2 ? second / first : first / second);
    times.push_back(i % 2 ? second : first);
  }
};

// The price of the block table: the ratio of each pair of chains. The table in order leads to the
// same slots as the affine map: what it costs is the kernel's. A plain read of the same pages that
// takes longer under the random table than under the one in order shows what the memory takes.
void run_pair(benchmark::State& state, const ModelShape& model,
              const std::vector<std::int32_t>& lengths) {
  constexpr int kPairs = 11;
  for (auto _ : state) {
    DecodeCase c(model, lengths, kBlockTokens);
    kernels::cuda::testing::DeviceArray<std::int32_t> ids(counted(c.rows * c.table_map.stride));
    const kernels::BlockTableMap in_order{ids.get(), c.table_map.stride, kBlockTokens};
    check(state, std::max({c.error(c.table_map), c.error(c.affine_map), c.error(in_order)}));
    cudaStream_t stream = Lab::get().stream;
    const auto attention = [&](const auto& map) {
      return std::make_unique<Chain>(c.launches, stream, [&](int layer, cudaStream_t s) {
        c.launch(map, layer, cuda::Dependent::yes, s);
      });
    };
    const auto read = [&](const kernels::BlockTableMap& map) {
      return std::make_unique<Chain>(c.launches, stream, [&](int layer, cudaStream_t s) {
        read_pages({c.pool, c.layout}, layer, map, c.rows, c.longest / kBlockTokens, Lab::get().sms,
                   s);
      });
    };
    const auto affine = attention(c.affine_map);
    wake_up(c);
    const auto table = attention(c.table_map);
    const auto table_in_order = attention(in_order);
    const auto random_read = read(c.table_map);
    const auto read_in_order = read(in_order);
    Pair pairs[] = {{*affine, *table}, {*affine, *table_in_order}, {*read_in_order, *random_read}};
    for (int i = -3; i < kPairs; ++i) {
      for (Pair& pair : pairs) pair.replay(i);
    }
    for (Pair& pair : pairs) {
      std::sort(pair.ratios.begin(), pair.ratios.end());
      std::sort(pair.times.begin(), pair.times.end());
    }
    const Pair& price = pairs[0];
    report(state, {price.times[kPairs / 2], price.times.front(), price.times.back(), c.launches});
    state.counters["bytes"] = static_cast<double>(c.bytes);
    state.counters["table_over_affine"] = price.ratios[kPairs / 2];
    state.counters["ratio_low"] = price.ratios.front();
    state.counters["ratio_high"] = price.ratios.back();
    state.counters["in_order_over_affine"] = pairs[1].ratios[kPairs / 2];
    state.counters["page_read_us"] = pairs[2].times[kPairs / 2];
    state.counters["page_read_over_in_order"] = pairs[2].ratios[kPairs / 2];
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

}  // namespace

void register_decode_benchmarks() {
  for (const ModelShape& model : {kOpt13b, kLlama3, kQwen3, kGroup8}) {
    for (const int batch : {1, 8, 32, 64, 256}) {
      for (const int context : {128, 512, 1024, 2048, 8192}) {
        const std::vector<std::int32_t> lengths(static_cast<std::size_t>(batch), context);
        const std::string cell =
            std::string(model.name) + "/" + std::to_string(batch) + "/" + std::to_string(context);
        add_row("decode/" + cell,
                [=](benchmark::State& s) { run_cell(s, model, lengths, cuda::Dependent::yes); });
        add_row("decode_full_dependency/" + cell,
                [=](benchmark::State& s) { run_cell(s, model, lengths, cuda::Dependent::no); });
        add_row("decode_map_price/" + cell,
                [=](benchmark::State& s) { run_pair(s, model, lengths); });
      }
    }
  }
  for (const ModelShape& model : {kGroup8, kLlama3, kOpt13b}) {
    for (const int batch : {32, 256}) {
      const std::vector<std::int32_t> lengths = ragged(batch, 64, 1984);
      add_row("decode_ragged/" + std::string(model.name) + "/" + std::to_string(batch),
              [=](benchmark::State& s) { run_cell(s, model, lengths, cuda::Dependent::yes); });
    }
  }
  // As in the middle of nano-vLLM's benchmark.
  const std::vector<std::int32_t> nano = ragged(256, 100, 1500);
  add_row("decode_ragged_100_1500/qwen3-0.6b/256",
          [=](benchmark::State& s) { run_cell(s, kQwen3, nano, cuda::Dependent::yes); });
  for (const ModelShape& model : {kQwen3, kOpt13b}) {
    add_row("decode_plan/" + std::string(model.name) + "/256",
            [=](benchmark::State& s) { run_plan(s, model, nano); });
  }
}

}  // namespace kvstow::bench
