// The small kernels of a layer at decode batches: their time beside a plain copy or read of the
// bytes they must move. Inputs are warm, as their producers leave them, so the ruler is too.
#include <string>

#include "bench/kernels_cuda/lab.h"
#include "bench/kernels_cuda/plain.h"
#include "kernels/cuda/beam_candidates.h"
#include "kernels/cuda/cache_ops.h"
#include "kernels/cuda/layers.h"
#include "kernels/cuda/sampling.h"
#include "kernels/cuda/thin_product.h"

namespace kvstow::bench {
namespace {

using kernels::DType;
namespace cuda = kernels::cuda;
using cuda::testing::DeviceArray;

constexpr int kLaunches = 512;

template <class Launch>
void run(benchmark::State& state, std::size_t bytes_read, std::size_t bytes_written,
         const Launch& launch) {
  for (auto _ : state) {
    Lab& lab = Lab::get();
    const ChainTime time =
        time_chain(kLaunches, lab.stream, [&](int, cudaStream_t s) { launch(s); });
    const std::size_t copied = (bytes_read + bytes_written) / 32 * 16;
    auto* data = reinterpret_cast<unsigned char*>(lab.numbers(2 * copied));
    const ChainTime copy = time_chain(kLaunches, lab.stream, [&](int, cudaStream_t s) {
      plain_copy(data, data + copied, copied, lab.sms, s);
    });
    report(state, time);
    state.counters["bytes"] = static_cast<double>(bytes_read + bytes_written);
    state.counters["warm_copy_us"] = copy.median_us;
    state.counters["over_warm_copy"] = time.median_us / copy.median_us;
  }
}

struct Model {
  const char* name;
  int hidden;
  int intermediate;
  int heads;
  int kv_heads;
  int vocab;
};
constexpr Model kModels[] = {{"qwen3-0.6b", 1024, 3072, 16, 8, 151936},
                             {"llama-3-8b", 4096, 14336, 32, 8, 128256}};

// The residual stream, which is f32, of a step with prompts.
void register_prompts(const Model& m) {
  constexpr int kRows = 16384;
  const auto body = [=](benchmark::State& state) {
    const std::size_t elements = kRows * static_cast<std::size_t>(m.hidden);
    const DeviceArray<float> x(std::vector<float>(elements, 0.5f));
    const std::uint16_t* weight = Lab::get().numbers(2 * static_cast<std::size_t>(m.hidden));
    DeviceArray<std::uint16_t> y(elements);
    run(state, 4 * elements, 2 * elements, [&](cudaStream_t s) {
      cuda::norm({kernels::NormKind::rms_norm, kRows, 1, m.hidden, x.get(), m.hidden, weight,
                  nullptr, y.get(), m.hidden, 1e-6f, DType::f16},
                 s, cuda::Dependent::yes);
    });
  };
  add_row("norm/" + std::string(m.name) + "/" + std::to_string(kRows), body);
}

void register_model(const Model& m, int rows) {
  const auto add = [&](const char* kernel, const std::function<void(benchmark::State&)>& body) {
    add_row(std::string(kernel) + "/" + m.name + "/" + std::to_string(rows), body);
  };
  const auto row_bytes = [=](int width) {
    return 2 * static_cast<std::size_t>(rows) * static_cast<std::size_t>(width);
  };
  // The parts of a product onto the residual, both f32.
  add("join_norm", [=](benchmark::State& state) {
    const std::size_t elements = row_bytes(m.hidden) / 2;
    const DeviceArray<float> parts(std::vector<float>(cuda::kThinParts * elements, 0.5f));
    const DeviceArray<float> residual(std::vector<float>(elements, 1.0f));
    const std::uint16_t* weight = Lab::get().numbers(row_bytes(m.hidden));
    DeviceArray<std::uint16_t> y(elements);
    run(state, (cuda::kThinParts + 1) * 4 * elements, (4 + 2) * elements, [&](cudaStream_t s) {
      cuda::join_norm({kernels::NormKind::rms_norm, rows, 1, m.hidden, nullptr, m.hidden, weight,
                       nullptr, y.get(), m.hidden, 1e-6f, DType::f16},
                      parts.get(), residual.get(), s, cuda::Dependent::yes);
    });
  });
  add("silu_mul", [=](benchmark::State& state) {
    std::uint16_t* x = Lab::get().numbers(2 * row_bytes(m.intermediate));
    DeviceArray<std::uint16_t> y(row_bytes(m.intermediate) / 2);
    run(state, 2 * row_bytes(m.intermediate), row_bytes(m.intermediate), [&](cudaStream_t s) {
      cuda::activation({kernels::ActivationKind::silu_mul, rows, m.intermediate, x,
                        2 * m.intermediate, y.get(), m.intermediate, DType::f16},
                       s, cuda::Dependent::yes);
    });
  });
  add("qk_norm_rope_write", [=](benchmark::State& state) {
    constexpr int kDim = 128;
    constexpr int kPositions = 1024;
    const std::int64_t stride = (m.heads + 2 * m.kv_heads) * kDim;
    DeviceArray<std::uint16_t> qkv(static_cast<std::size_t>(rows * stride));
    cuda::testing::fill_uniform(qkv.get(), qkv.size(), DType::f16, 1, 3, Lab::get().stream);
    const kernels::KvLayout layout{1, m.kv_heads, kDim, rows, DType::f16};
    DeviceArray<std::uint16_t> pool(static_cast<std::size_t>(layout.elements()));
    std::vector<std::int64_t> slots;
    std::vector<std::int32_t> position;
    for (int r = 0; r < rows; ++r) {
      slots.push_back(rows - 1 - r);
      position.push_back(r * 37 % kPositions);
    }
    const DeviceArray<std::int64_t> on_slots(slots);
    const DeviceArray<std::int32_t> on_position(position);
    const DeviceArray<float> cosine(std::vector<float>(kPositions * kDim / 2, 0.8f));
    const DeviceArray<float> sine(std::vector<float>(kPositions * kDim / 2, 0.6f));
    const std::uint16_t* k = qkv.get() + m.heads * kDim;
    run(state, row_bytes(static_cast<int>(stride)), row_bytes(static_cast<int>(stride)),
        [&](cudaStream_t s) {
          cuda::rotate_and_write({{{pool.get(), layout},
                                   0,
                                   rows,
                                   k,
                                   k + m.kv_heads * kDim,
                                   stride,
                                   stride,
                                   on_slots.get(),
                                   DType::f16},
                                  m.heads,
                                  qkv.get(),
                                  stride,
                                  k,
                                  k,
                                  1e-6f,
                                  on_position.get(),
                                  cosine.get(),
                                  sine.get()},
                                 s, cuda::Dependent::yes);
        });
  });
  struct Decoding {
    const char* name;
    cuda::SamplingRow row;
  };
  for (const Decoding& d : {Decoding{"sample_greedy", {0, 1, 0, 0, 0, 0}},
                            Decoding{"sample_temperature", {0.6, 1, 0, 0, 0, 0}},
                            Decoding{"sample_top_k_20", {0.6, 1, 20, 0, 0, 0}},
                            Decoding{"sample_top_p_095", {0.6, 0.95, 0, 0, 0, 0}},
                            Decoding{"sample_top_k_20_p_095", {0.6, 0.95, 20, 0, 0, 0}}}) {
    add(d.name, [=](benchmark::State& state) {
      std::uint16_t* logits = Lab::get().numbers(row_bytes(m.vocab));
      std::vector<cuda::SamplingRow> rows_of(static_cast<std::size_t>(rows), d.row);
      for (int r = 0; r < rows; ++r) rows_of[static_cast<std::size_t>(r)].output_position = r;
      const DeviceArray<cuda::SamplingRow> on_rows(rows_of);
      DeviceArray<std::int32_t> token(rows_of.size());
      DeviceArray<float> logprob(rows_of.size());
      for (auto _ : state) {
        const ChainTime time = time_chain(32, Lab::get().stream, [&](int, cudaStream_t s) {
          cuda::sample_tokens({rows, m.vocab, logits, m.vocab, DType::f16, on_rows.get(), 7,
                               token.get(), logprob.get()},
                              s, cuda::Dependent::yes);
        });
        const std::size_t bytes = row_bytes(m.vocab);
        report_over_read(state, time, Lab::get().plain_read(bytes).time, bytes);
      }
    });
  }
}

// Random f32 logits, more bytes than L2 holds.
void register_beams(const char* model, int vocab, int rows, int width) {
  const std::string name = std::string("beam_candidates/") + model + "/" + std::to_string(rows) +
                           "/" + std::to_string(width);
  const auto body = [=](benchmark::State& state) {
    const auto places = static_cast<std::size_t>(rows) * static_cast<std::size_t>(width);
    DeviceArray<float> logits(static_cast<std::size_t>(rows) * static_cast<std::size_t>(vocab));
    cuda::testing::fill_uniform(logits.get(), logits.size(), DType::f32, 1, 3, Lab::get().stream);
    const DeviceArray<cuda::SamplingRow> on_rows(
        std::vector<cuda::SamplingRow>(static_cast<std::size_t>(rows), {0, 1, 0, 0, 0, 0, width}));
    DeviceArray<double> log_sum(static_cast<std::size_t>(rows));
    DeviceArray<std::int32_t> token(places);
    DeviceArray<float> logit(places);
    for (auto _ : state) {
      const ChainTime time = time_chain(32, Lab::get().stream, [&](int, cudaStream_t s) {
        cuda::beam_candidates({rows, vocab, logits.get(), vocab, on_rows.get(), width,
                               log_sum.get(), token.get(), logit.get()},
                              s, cuda::Dependent::yes);
      });
      const std::size_t bytes = logits.size() * sizeof(float);
      report_over_read(state, time, Lab::get().plain_read(bytes).time, bytes);
    }
  };
  add_row(name, body);
}

}  // namespace

void register_layer_benchmarks() {
  for (const int width : {6, 64}) {
    register_beams("opt-13b", 50272, 450, width);
    register_beams("qwen3-0.6b", 151936, 192, width);
  }
  for (const Model& m : kModels) {
    for (const int rows : {1, 32, 256}) register_model(m, rows);
    register_prompts(m);
  }
}

}  // namespace kvstow::bench
