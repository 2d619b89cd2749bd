// Our decode body under the affine map beside kernels that only work there, in alternating pairs.
#include <algorithm>
#include <string>

#include "bench/kernels_cuda/affine_only.h"
#include "bench/kernels_cuda/decode_case.h"

namespace kvstow::bench {
namespace {

namespace cuda = kernels::cuda;

// The other kernel gets the number of splits that suits it best.
void run(benchmark::State& state, const ModelShape& model, AffineCopies copies, int batch,
         int context) {
  constexpr int kPairs = 11;
  for (auto _ : state) {
    const std::vector<std::int32_t> lengths(static_cast<std::size_t>(batch), context);
    DecodeCase c(model, lengths, 16);
    cudaStream_t stream = Lab::get().stream;
    double error = c.error(c.affine_map);
    double best = 0;
    double best_us = 0;
    int best_splits = 0;
    Chain ours(c.launches, stream, [&](int layer, cudaStream_t s) {
      c.launch(c.affine_map, layer, cuda::Dependent::yes, s);
    });
    for (const int splits : {1, 2, 4, 8}) {
      if (context / 64 < splits) continue;
      const AffineOnlyDecode other({c.pool, c.layout}, copies, splits);
      error = std::max(error, c.error_of(c.affine_map, [&](const auto& a, cudaStream_t s) {
        other.launch(a, s);
      }));
      Chain theirs(c.launches, stream, [&](int layer, cudaStream_t s) {
        other.launch(c.args(c.affine_map, layer), s);
      });
      for (int i = 0; i < 2; ++i) {
        ours.replay();
        theirs.replay();
      }
      std::vector<double> ratios;
      std::vector<double> times;
      for (int i = 0; i < kPairs; ++i) {
        const double first = i % 2 ? ours.replay() : theirs.replay();
        const double second = i % 2 ? theirs.replay() : ours.replay();
        ratios.push_back(i % 2 ? second / first : first / second);
        times.push_back(i % 2 ? second : first);
      }
      std::sort(ratios.begin(), ratios.end());
      std::sort(times.begin(), times.end());
      if (best_splits > 0 && ratios[kPairs / 2] >= best) continue;
      best = ratios[kPairs / 2];
      best_us = times[kPairs / 2];
      best_splits = splits;
    }
    state.counters["relative_l2"] = error;
    if (!(error <= 7e-4)) return state.SkipWithError("wrong result");
    report(state, {best_us, best_us, best_us, c.launches});
    state.counters["bytes"] = static_cast<double>(c.bytes);
    state.counters["over_ours"] = best;
    state.counters["splits"] = best_splits;
  }
}

}  // namespace

void register_affine_benchmarks() {
  for (const ModelShape& model : {kOpt13b, kLlama3, kQwen3, kGroup8}) {
    for (const int batch : {1, 8, 64}) {
      for (const int context : {512, 2048}) {
        for (const AffineCopies copies : {AffineCopies::tensor_boxes, AffineCopies::bulk}) {
          const std::string name = std::string("affine_only/") +
                                   (copies == AffineCopies::bulk ? "bulk/" : "tensor_boxes/") +
                                   model.name + "/" + std::to_string(batch) + "/" +
                                   std::to_string(context);
          add_row(name, [=](benchmark::State& s) { run(s, model, copies, batch, context); });
        }
      }
    }
  }
}

}  // namespace kvstow::bench
