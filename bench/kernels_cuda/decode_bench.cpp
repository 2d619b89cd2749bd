// Decode attention: every cell of the anchors (three models, five batches, five contexts), a group
// of 8, ragged batches, with and without programmatic dependent launch, and the two maps in pairs.
#include <algorithm>
#include <cmath>
#include <numeric>
#include <string>

#include "bench/kernels_cuda/lab.h"
#include "core/rng.h"
#include "kernels/cuda/decode_attention.h"

namespace kvstow::bench {
namespace {

using kernels::AffineMap;
using kernels::BlockTableMap;
using kernels::DecodeAttentionArgs;
using kernels::DType;
using kernels::KvLayout;
namespace cuda = kernels::cuda;
using cuda::testing::DeviceArray;

constexpr int kBlockTokens = 16;

// One step of decoding: rows of the given lengths, pages in random order, one layer per launch.
class DecodeCase {
 public:
  DecodeCase(const ModelShape& m, const std::vector<std::int32_t>& lengths, int block_tokens)
      : model(m), rows(static_cast<int>(lengths.size())) {
    Lab& lab = Lab::get();
    const std::int64_t tokens = std::accumulate(lengths.begin(), lengths.end(), std::int64_t{0});
    const int longest = *std::max_element(lengths.begin(), lengths.end());
    bytes = static_cast<std::size_t>(4 * tokens * m.kv_heads * m.head_dim);
    launches = chain_launches(static_cast<double>(bytes));
    std::int64_t blocks = 0;
    std::int64_t stride = 0;
    for (const std::int32_t l : lengths) {
      blocks += ceil_div(l, block_tokens);
      stride = std::max(stride, ceil_div(l, block_tokens));
    }
    layout = {launches, m.kv_heads, m.head_dim, blocks * block_tokens, DType::f16};
    pool = lab.numbers(static_cast<std::size_t>(layout.elements()) * 2);
    std::vector<std::int32_t> order(static_cast<std::size_t>(blocks));
    std::iota(order.begin(), order.end(), 0);
    RandomStream random(5, "pages");
    for (std::size_t i = order.size(); i > 1; --i) {
      std::swap(order[i - 1], order[random.below(static_cast<std::uint32_t>(i))]);
    }
    std::vector<std::int32_t> table(static_cast<std::size_t>(rows * stride), -1);
    std::vector<std::int64_t> starts;
    std::vector<std::int32_t> map_rows(lengths.size());
    std::vector<std::int32_t> stable(lengths);
    std::iota(map_rows.begin(), map_rows.end(), 0);
    std::size_t used = 0;
    for (int r = 0; r < rows; ++r) {
      starts.push_back(static_cast<std::int64_t>(used) * block_tokens);
      for (std::int64_t i = 0; i < ceil_div(lengths[r], block_tokens); ++i) {
        table[static_cast<std::size_t>(r * stride + i)] = order[used++];
      }
      stable[r] = std::max(0, lengths[r] - 1);  // the step's own token is written by this step
    }
    ids = DeviceArray<std::int32_t>(table);
    firsts = DeviceArray<std::int64_t>(starts);
    map_row = DeviceArray<std::int32_t>(map_rows);
    length = DeviceArray<std::int32_t>(lengths);
    stable_length = DeviceArray<std::int32_t>(stable);
    table_map = {ids.get(), stride, block_tokens};
    affine_map = {firsts.get()};
    const std::size_t width = static_cast<std::size_t>(m.heads * m.head_dim);
    q = DeviceArray<std::uint16_t>(rows * width);
    out = DeviceArray<std::uint16_t>(rows * width);
    cuda::testing::fill_uniform(q.get(), q.size(), DType::f16, 1.5f, 23, lab.stream);
    schedule = cuda::decode_schedule(rows, longest, m.heads, layout, lab.sms);
    workspace = DeviceArray<unsigned char>(static_cast<std::size_t>(schedule.workspace.bytes));
    workspace.fill_bytes(0);
    cuda::plan_decode_attention(schedule, length.get(), rows, workspace.get(), lab.stream);
    KVSTOW_CUDA(cudaStreamSynchronize(lab.stream));
  }

  template <class Map>
  DecodeAttentionArgs<Map> args(const Map& map, int layer) const {
    const std::int64_t width = std::int64_t{model.heads} * model.head_dim;
    return {{pool, layout},
            layer,
            map,
            rows,
            model.heads,
            q.get(),
            width,
            out.get(),
            width,
            map_row.get(),
            length.get(),
            stable_length.get(),
            1 / std::sqrt(static_cast<float>(model.head_dim)),
            DType::f16};
  }

  template <class Map>
  void launch(const Map& map, int layer, cuda::Dependent dependent, cudaStream_t stream) const {
    cuda::decode_attention(args(map, layer), schedule, workspace.get(), stream, dependent);
  }

  // Relative L2 of the last layer's first rows against double precision, outputs poisoned before.
  template <class Map>
  double error(const Map& map) {
    out.fill_bytes(0xff);
    launch(map, launches - 1, cuda::Dependent::no, Lab::get().stream);
    KVSTOW_CUDA(cudaStreamSynchronize(Lab::get().stream));
    auto a = args(map, launches - 1);
    a.rows = std::min(rows, 4);
    const int longest = static_cast<int>(table_map.stride) * table_map.block_tokens;
    const std::size_t count = static_cast<std::size_t>(a.rows) * model.heads * model.head_dim;
    DeviceArray<double> scratch(static_cast<std::size_t>(a.rows) * model.heads * longest);
    DeviceArray<double> reference(count);
    cuda::testing::decode_in_double(a, longest, scratch.get(), reference.get(), nullptr);
    KVSTOW_CUDA(cudaDeviceSynchronize());
    return cuda::testing::relative_l2(out.get(), DType::f16, reference.get(), count);
  }

  ModelShape model;
  int rows;
  std::size_t bytes = 0;
  int launches = 0;
  KvLayout layout{};
  std::uint16_t* pool = nullptr;
  DeviceArray<std::int32_t> ids;
  DeviceArray<std::int64_t> firsts;
  DeviceArray<std::int32_t> map_row;
  DeviceArray<std::int32_t> length;
  DeviceArray<std::int32_t> stable_length;
  DeviceArray<std::uint16_t> q;
  DeviceArray<std::uint16_t> out;
  DeviceArray<unsigned char> workspace;
  BlockTableMap table_map{};
  AffineMap affine_map{};
  cuda::DecodeSchedule schedule{};
};

void check(benchmark::State& state, double error) {
  state.counters["relative_l2"] = error;
  if (!(error <= 7e-4)) state.SkipWithError("wrong result");
}

void run_cell(benchmark::State& state, const ModelShape& model,
              const std::vector<std::int32_t>& lengths, cuda::Dependent dependent) {
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
      std::vector<std::int32_t> lengths;
      RandomStream random(9, "ragged");
      for (int i = 0; i < batch; ++i) {
        lengths.push_back(64 + static_cast<std::int32_t>(random.below(1984 - 64 + 1)));
      }
      add("decode_ragged/" + std::string(model.name) + "/" + std::to_string(batch),
          [=](benchmark::State& s) { run_cell(s, model, lengths, cuda::Dependent::yes); });
    }
  }
}

}  // namespace kvstow::bench
