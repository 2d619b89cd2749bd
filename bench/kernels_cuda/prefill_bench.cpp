// Prefill attention: the anchors' cells, as a rate and as a share of a large matrix product's rate
// in the same run, and the two maps in pairs.
#include <algorithm>
#include <cmath>
#include <numeric>
#include <string>

#include "bench/kernels_cuda/gemm.h"
#include "bench/kernels_cuda/lab.h"
#include "kernels/cuda/prefill_attention.h"
#include "tests/cuda/placement.h"

namespace kvstow::bench {
namespace {

using kernels::AffineMap;
using kernels::BlockTableMap;
using kernels::DType;
using kernels::KvLayout;
using kernels::PrefillAttentionArgs;
namespace cuda = kernels::cuda;
using cuda::testing::DeviceArray;
using cuda::testing::Placement;

constexpr int kBlockTokens = 16;

// Prompts of one length, nothing cached before, pages in random order, one layer per launch.
class PrefillCase {
 public:
  PrefillCase(const ModelShape& m, int sequences, int tokens)
      : model(m),
        count(sequences),
        length(tokens),
        rows(sequences * tokens),
        placement(std::vector<std::int32_t>(static_cast<std::size_t>(count), length), kBlockTokens,
                  5, Placement::Gaps::none) {
    layout = {kLayers, m.kv_heads, m.head_dim, placement.slots(), DType::f16};
    pool = Lab::get().numbers(static_cast<std::size_t>(layout.elements()) * 2);
    std::vector<std::int32_t> begins{0};
    std::vector<std::int32_t> zeros(static_cast<std::size_t>(count), 0);
    std::vector<std::int32_t> own_row(zeros.size());
    std::iota(own_row.begin(), own_row.end(), 0);
    for (int s = 0; s < count; ++s) begins.push_back((s + 1) * length);
    row_begin = DeviceArray<std::int32_t>(begins);
    map_row = DeviceArray<std::int32_t>(own_row);
    first = DeviceArray<std::int32_t>(zeros);
    table_map = placement.table();
    affine_map = placement.affine();
    const auto width = static_cast<std::size_t>(m.heads * m.head_dim);
    q = DeviceArray<std::uint16_t>(static_cast<std::size_t>(rows) * width);
    out = DeviceArray<std::uint16_t>(q.size());
    cuda::testing::fill_uniform(q.get(), q.size(), DType::f16, 1.5f, 23, Lab::get().stream);
  }

  // Multiplications and additions of Q K^T and P V below the diagonal, as the anchors count them.
  [[nodiscard]] double flops() const {
    return 2.0 * count * length * length * model.heads * model.head_dim;
  }

  template <class Map>
  void launch(const Map& map, int layer, cuda::Dependent dependent, cudaStream_t stream) const {
    const std::int64_t width = std::int64_t{model.heads} * model.head_dim;
    cuda::prefill_attention(PrefillAttentionArgs<Map>{{pool, layout},
                                                      layer,
                                                      map,
                                                      count,
                                                      model.heads,
                                                      q.get(),
                                                      width,
                                                      out.get(),
                                                      width,
                                                      row_begin.get(),
                                                      map_row.get(),
                                                      first.get(),
                                                      scale(),
                                                      DType::f16},
                            rows, stream, dependent);
  }

  // Relative L2 of some rows of the last sequence against double precision.
  template <class Map>
  double error(const Map& map) {
    out.fill_bytes(0xff);
    launch(map, 0, cuda::Dependent::no, Lab::get().stream);
    KVSTOW_CUDA(cudaStreamSynchronize(Lab::get().stream));
    constexpr int kRows = 4;
    const int begin = rows - kRows;
    const std::size_t width = static_cast<std::size_t>(model.heads) * model.head_dim;
    std::vector<std::int32_t> lengths;
    for (int i = 0; i < kRows; ++i) lengths.push_back(length - kRows + i + 1);
    const std::vector<std::int32_t> last(kRows, count - 1);
    const DeviceArray<std::int32_t> on_length(lengths), on_row(last);
    DeviceArray<double> scratch(static_cast<std::size_t>(kRows * model.heads) * length);
    DeviceArray<double> want(kRows * width);
    cuda::testing::decode_in_double(
        kernels::DecodeAttentionArgs<Map>{{pool, layout},
                                          0,
                                          map,
                                          kRows,
                                          model.heads,
                                          q.get() + begin * width,
                                          static_cast<std::int64_t>(width),
                                          nullptr,
                                          0,
                                          on_row.get(),
                                          on_length.get(),
                                          nullptr,
                                          scale(),
                                          DType::f16},
        length, scratch.get(), want.get(), nullptr);
    KVSTOW_CUDA(cudaDeviceSynchronize());
    return cuda::testing::relative_l2(out.get() + begin * width, DType::f16, want.get(),
                                      want.size());
  }

  [[nodiscard]] float scale() const { return 1 / std::sqrt(static_cast<float>(model.head_dim)); }

  static constexpr int kLayers = 4;
  ModelShape model;
  int count;
  int length;
  int rows;
  Placement placement;
  KvLayout layout{};
  std::uint16_t* pool = nullptr;
  DeviceArray<std::int32_t> row_begin;
  DeviceArray<std::int32_t> map_row;
  DeviceArray<std::int32_t> first;
  DeviceArray<std::uint16_t> q;
  DeviceArray<std::uint16_t> out;
  BlockTableMap table_map{};
  AffineMap affine_map{};
};

void run_cell(benchmark::State& state, const ModelShape& model, int sequences, int tokens,
              cuda::Dependent dependent) {
  for (auto _ : state) {
    PrefillCase c(model, sequences, tokens);
    const double error = std::max(c.error(c.table_map), c.error(c.affine_map));
    state.counters["relative_l2"] = error;
    if (!(error <= 7e-4)) state.SkipWithError("wrong result");
    cudaStream_t stream = Lab::get().stream;
    Chain table(PrefillCase::kLayers, stream,
                [&](int layer, cudaStream_t s) { c.launch(c.table_map, layer, dependent, s); });
    Chain affine(PrefillCase::kLayers, stream,
                 [&](int layer, cudaStream_t s) { c.launch(c.affine_map, layer, dependent, s); });
    for (int i = 0; i < 3; ++i) {
      table.replay();
      affine.replay();
    }
    constexpr int kPairs = 11;
    std::vector<double> times, ratios;
    for (int i = 0; i < kPairs; ++i) {  // the order alternates
      const double one = i % 2 ? affine.replay() : table.replay();
      const double other = i % 2 ? table.replay() : affine.replay();
      times.push_back(i % 2 ? other : one);
      ratios.push_back(i % 2 ? other / one : one / other);
    }
    std::sort(times.begin(), times.end());
    std::sort(ratios.begin(), ratios.end());
    report(state, {times[kPairs / 2], times.front(), times.back(), PrefillCase::kLayers});
    const double tflops = c.flops() / times[kPairs / 2] / 1e6;
    state.counters["tflop_per_s"] = tflops;
    state.counters["of_gemm"] = tflops / gemm_tflops(Lab::get().stream);
    state.counters["table_over_affine"] = ratios[kPairs / 2];
  }
}

}  // namespace

void register_prefill_benchmarks() {
  add_row("gemm_bf16/8192", [](benchmark::State& state) {
    for (auto _ : state) {
      const double rate = gemm_tflops(Lab::get().stream);
      state.SetIterationTime(2.0 * 8192 * 8192 * 8192 / rate * 1e-12);
      state.counters["tflop_per_s"] = rate;
    }
  });
  struct Cell {
    int sequences;
    int tokens;
  };
  for (const ModelShape& model : {kOpt13b, kLlama3, kQwen3}) {
    for (const Cell cell : {Cell{1, 2048}, Cell{4, 1024}, Cell{16, 512}, Cell{1, 8192}}) {
      const std::string name = std::string(model.name) + "/" + std::to_string(cell.sequences) +
                               "x" + std::to_string(cell.tokens);
      add_row("prefill/" + name, [=](benchmark::State& s) {
        run_cell(s, model, cell.sequences, cell.tokens, cuda::Dependent::yes);
      });
      add_row("prefill_full_dependency/" + name, [=](benchmark::State& s) {
        run_cell(s, model, cell.sequences, cell.tokens, cuda::Dependent::no);
      });
    }
  }
}

}  // namespace kvstow::bench
