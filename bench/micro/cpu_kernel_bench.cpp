// The CPU kernels beside the machine's own limits, in one run: the read bandwidth of memory,
// Eigen's matrix product, and the contiguous body of the same attention.
//
//   cpu_kernel_bench                     all rows, on all hardware threads
//   KVSTOW_THREADS=1 cpu_kernel_bench    on one
//   cpu_kernel_bench --benchmark_repetitions=20 --benchmark_min_time=0.05
//                                        also the fastest of 20, for a machine that is not quiet
//   KVSTOW_ISA=avx2 cpu_kernel_bench     with a lesser instruction set (ours; Eigen keeps its own)
//
// Counter read_ms: what reading a step's bytes would take at the bandwidth measured in this run
// (the fastest of thirty passes over 512 MiB). A step at 70 % of it takes read_ms / 0.7.
#include <benchmark/benchmark.h>

#include <Eigen/Core>
#include <algorithm>
#include <chrono>
#include <cstdlib>

#include "core/exec/cpu/cpu_transformer.h"
#include "core/rng.h"

namespace kvstow {
namespace {

using kernels::DType;
using kernels::KvPool;
using kernels::cpu::ThreadPool;

ThreadPool& threads() {
  static ThreadPool pool(std::getenv("KVSTOW_THREADS") ? std::atoi(std::getenv("KVSTOW_THREADS"))
                                                       : 0);
  return pool;
}

// Rows also get the fastest of their repetitions: what the machine can do when nothing else runs.
template <benchmark::TimeUnit kUnit>
void fastest(benchmark::internal::Benchmark* row) {
  row->UseRealTime()->Unit(kUnit)->ComputeStatistics("fastest", [](const std::vector<double>& t) {
    return *std::min_element(t.begin(), t.end());
  });
}

void fill(FloatArray& data, std::uint64_t seed) {
  RandomStream random(seed, "benchmark");
  for (std::size_t i = 0; i < data.size(); ++i) {
    data.data()[i] = static_cast<float>(random.uniform() - 0.5);
  }
}

// Streams 512 MiB, every thread its part, and adds it up (four independent sums of 16 lanes).
void read_once(const FloatArray& data) {
  constexpr std::int64_t kPart = 1 << 20;  // floats
  threads().run(static_cast<std::int64_t>(data.size()) / kPart, [&](std::int64_t part) {
    using Lanes = Eigen::Array<float, 64, 1>;
    Lanes sum = Lanes::Zero();
    const float* p = data.data() + part * kPart;
    for (std::int64_t i = 0; i < kPart; i += 64) sum += Eigen::Map<const Lanes>(p + i);
    benchmark::DoNotOptimize(sum.sum());
  });
}

const FloatArray& large_array() {
  static const FloatArray data = [] {
    FloatArray array(std::size_t{1} << 27);
    std::fill_n(array.data(), array.size(), 1.0f);
    return array;
  }();
  return data;
}

// The ceiling that read_ms refers to.
double read_bandwidth() {
  static const double best = [] {
    double fastest = 1e9;
    for (int i = 0; i < 30; ++i) {
      const auto begin = std::chrono::steady_clock::now();
      read_once(large_array());
      const std::chrono::duration<double> took = std::chrono::steady_clock::now() - begin;
      fastest = std::min(fastest, took.count());
    }
    return static_cast<double>(large_array().size() * sizeof(float)) / fastest;
  }();
  return best;
}

void report_read(benchmark::State& state, double bytes) {
  state.counters["read_ms"] = bytes / read_bandwidth() * 1e3;
}

void read(benchmark::State& state) {
  const FloatArray& data = large_array();
  for (auto _ : state) read_once(data);
  report_read(state, static_cast<double>(large_array().size() * sizeof(float)));
}
BENCHMARK(read)->Name("memory_read/512MiB")->Apply(fastest<benchmark::kMillisecond>);

// OPT-125M's shape (Zhang et al., arXiv 2205.01068, Table 1).
const Transformer& opt_125m() {
  static const Transformer shape = [] {
    Transformer m;
    m.family = ModelFamily::opt;
    m.layers = 12;
    m.hidden = 768;
    m.heads = m.kv_heads = 12;
    m.head_dim = 64;
    m.ffn = 3072;
    m.vocab = 50272;
    m.max_positions = 2048;
    m.layer_norm = m.learned_positions = m.tied_embeddings = true;
    m.qkv_bias = m.output_bias = m.mlp_bias = true;
    m.gated = false;
    return m;
  }();
  return shape;
}

// One decode step of the whole model, `batch` sequences of 16 tokens: next to no attention.
void decode_step(benchmark::State& state) {
  static const CpuTransformer model(opt_125m(), *random_weights(1));
  const int batch = static_cast<int>(state.range(0));
  constexpr int kLength = 16;
  FloatArray data;
  KvPool pool{nullptr, {12, 12, 64, std::int64_t{batch} * kLength, DType::f32}};
  data = FloatArray(static_cast<std::size_t>(pool.layout.elements()));
  fill(data, 1);
  pool.data = data.data();
  ForwardRows rows;
  for (int i = 0; i < batch; ++i) {
    rows.token.push_back(i);
    rows.position.push_back(kLength - 1);
    rows.first.push_back(std::int64_t{i} * kLength);
    rows.slot.push_back(rows.first.back() + kLength - 1);
    rows.decode_map.push_back(i);
    rows.decode_length.push_back(kLength);
    rows.logits.push_back(i);
  }
  CpuTransformer::Workspace work;
  for (auto _ : state) benchmark::DoNotOptimize(model.forward(rows, pool, work, threads()).data());
  report_read(state, static_cast<double>(model.weight_bytes()));
}
BENCHMARK(decode_step)
    ->Name("decode_step/opt-125m/batch")
    ->Arg(1)
    ->Arg(2)
    ->Arg(4)
    ->Arg(8)
    ->Arg(16)
    ->Apply(fastest<benchmark::kMillisecond>);

// The four linear layers of one OPT-125M layer at 512 rows: QKV, output, up, down.
constexpr int kRows = 512;
constexpr std::pair<int, int> kLayers[] = {{768, 2304}, {768, 768}, {768, 3072}, {3072, 768}};

template <class Body>
void for_layers(benchmark::State& state, Body&& body) {
  double flops = 0;
  FloatArray x(std::size_t{kRows} * 3072);
  FloatArray y(std::size_t{kRows} * 3072);
  FloatArray weight(std::size_t{3072} * 768);
  fill(x, 1);
  fill(weight, 2);
  for (const auto& [in, out] : kLayers) flops += 2.0 * kRows * in * out;
  for (auto _ : state) {
    for (const auto& [in, out] : kLayers) body(x.data(), weight.data(), y.data(), in, out);
    benchmark::DoNotOptimize(y.data());
  }
  state.counters["gflop"] = flops / 1e9;
}

void linear_ours(benchmark::State& state) {
  for_layers(state, [](const float* x, const float* w, float* y, int in, int out) {
    kernels::cpu::linear({.rows = kRows,
                          .in = in,
                          .out = out,
                          .x = x,
                          .x_stride = in,
                          .weight = w,
                          .bias = nullptr,
                          .residual = nullptr,
                          .y = y,
                          .y_stride = out,
                          .dtype = DType::f32},
                         threads());
  });
}
BENCHMARK(linear_ours)->Name("prefill_linear/512/kvstow")->Apply(fastest<benchmark::kMillisecond>);

// Eigen's product on the same threads: each computes its share of the output's columns.
void linear_eigen(benchmark::State& state) {
  using Matrix = Eigen::Matrix<float, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;
  for_layers(state, [](const float* x, const float* w, float* y, int in, int out) {
    const Eigen::Map<const Matrix> rows(x, kRows, in);
    const Eigen::Map<const Matrix> weight(w, out, in);
    Eigen::Map<Matrix> result(y, kRows, out);
    const int share = (out + threads().size() - 1) / threads().size();
    threads().run(threads().size(), [&](std::int64_t part) {
      const int first = static_cast<int>(part) * share;
      const int width = std::min(share, out - first);
      if (width <= 0) return;
      result.middleCols(first, width).noalias() =
          rows * weight.middleRows(first, width).transpose();
    });
  });
}
BENCHMARK(linear_eigen)->Name("prefill_linear/512/eigen")->Apply(fastest<benchmark::kMillisecond>);

// Decode attention of one OPT-125M layer, 2048 tokens for each of `batch` sequences.
template <class Map>
void attention(benchmark::State& state, const Map& map, std::int64_t slots, int batch) {
  constexpr int kContext = 2048;
  constexpr int kWidth = 768;
  static FloatArray data(std::size_t{2} * 8 * 2 * kContext * kWidth);
  static bool filled = (fill(data, 3), true);
  benchmark::DoNotOptimize(filled);
  const KvPool pool{data.data(), {1, 12, 64, slots, DType::f32}};
  FloatArray q(std::size_t{8} * kWidth);
  FloatArray out(std::size_t{8} * kWidth);
  fill(q, 4);
  std::vector<std::int32_t> map_row;
  for (int i = 0; i < batch; ++i) map_row.push_back(i);
  const std::vector<std::int32_t> length(static_cast<std::size_t>(batch), kContext);
  for (auto _ : state) {
    kernels::cpu::decode_attention(kernels::DecodeAttentionArgs<Map>{.pool = pool,
                                                                     .layer = 0,
                                                                     .map = map,
                                                                     .rows = batch,
                                                                     .heads = 12,
                                                                     .q = q.data(),
                                                                     .q_stride = kWidth,
                                                                     .out = out.data(),
                                                                     .out_stride = kWidth,
                                                                     .map_row = map_row.data(),
                                                                     .length = length.data(),
                                                                     .stable_length = nullptr,
                                                                     .scale = 0.125f,
                                                                     .dtype = DType::f32},
                                   threads());
    benchmark::DoNotOptimize(out.data());
  }
  report_read(state, 2.0 * batch * kContext * kWidth * sizeof(float));
}

void attention_contiguous(benchmark::State& state) {
  const int batch = static_cast<int>(state.range(0));
  std::vector<std::int64_t> first;
  for (int i = 0; i < batch; ++i) first.push_back(std::int64_t{i} * 2048);
  attention(state, kernels::AffineMap{first.data()}, std::int64_t{8} * 2048, batch);
}
BENCHMARK(attention_contiguous)
    ->Name("decode_attention/2048/contiguous/batch")
    ->Arg(1)
    ->Arg(8)
    ->Apply(fastest<benchmark::kMicrosecond>);

// Blocks drawn at random from the whole pool, as after hours of serving.
void attention_paged(benchmark::State& state) {
  const int batch = static_cast<int>(state.range(0));
  const int block = static_cast<int>(state.range(1));
  const int blocks = 8 * 2048 / block;
  std::vector<std::int32_t> ids(static_cast<std::size_t>(blocks));
  for (int i = 0; i < blocks; ++i) ids[static_cast<std::size_t>(i)] = i;
  RandomStream random(1, "blocks");
  for (std::uint32_t i = static_cast<std::uint32_t>(blocks); i > 1; --i) {
    std::swap(ids[i - 1], ids[random.below(i)]);
  }
  attention(state, kernels::BlockTableMap{ids.data(), 2048 / block, block}, std::int64_t{8} * 2048,
            batch);
}
BENCHMARK(attention_paged)
    ->Name("decode_attention/2048/paged/batch/block")
    ->ArgsProduct({{1, 8}, {1, 16, 128}})
    ->Apply(fastest<benchmark::kMicrosecond>);

}  // namespace
}  // namespace kvstow

BENCHMARK_MAIN();
