// The GPU's forward pass against the CPU's in f32, on the same weights: every family, prompts in
// one piece and decodes behind them, block tables and extents.
#include <gtest/gtest.h>

#include <cmath>

#include "core/exec/cpu/cpu_transformer.h"
#include "core/exec/cuda/cuda_transformer.h"
#include "core/rng.h"
#include "tests/cuda/device_case.h"

namespace kvstow {
namespace {

using kernels::DType;

Transformer small(ModelFamily family) {
  Transformer shape;
  shape.family = family;
  shape.layers = 3;
  shape.hidden = 256;
  shape.heads = 4;
  shape.kv_heads = family == ModelFamily::opt ? 4 : 2;
  shape.head_dim = 64;
  shape.ffn = 512;
  shape.vocab = 1000;
  shape.max_positions = 512;
  const bool opt = family == ModelFamily::opt;
  shape.layer_norm = shape.learned_positions = opt;
  shape.qkv_bias = shape.output_bias = shape.mlp_bias = opt;
  shape.gated = !opt;
  shape.qk_norm = family == ModelFamily::qwen3;
  shape.tied_embeddings = family != ModelFamily::llama;
  return shape;
}

constexpr int kSlots = 1024;

// Two prompts of 70 and 133 tokens, and a third sequence that decodes at position 40 what an
// earlier pass has filled; block tables in a stirred order, or extents.
ForwardRows rows_of(bool prefill, bool table) {
  ForwardRows rows;
  const int lengths[] = {70, 133};
  rows.block_tokens = table ? 7 : 0;
  rows.table_stride = table ? 40 : 0;
  rows.map_rows = 2;
  const auto slot = [&](int sequence, int position) {
    if (!table) return std::int64_t{sequence} * 300 + position;
    const int block = sequence * 40 + position / 7;
    return std::int64_t{(block * 37 + 11) % 140} * 7 + position % 7;
  };
  for (int s = 0; s < 2; ++s) {
    rows.first.push_back(s * 300);
    for (int b = 0; table && b < 40; ++b) rows.table.push_back((((s * 40) + b) * 37 + 11) % 140);
  }
  if (!table) rows.table.clear();
  for (int s = 0; s < 2; ++s) {
    // The last three tokens are decodes, each with its own length.
    const int first = prefill ? 0 : lengths[s] - 3;
    const int end = prefill ? lengths[s] - 3 : lengths[s];
    for (int p = first; p < end; ++p) {
      rows.token.push_back(
          static_cast<int>(mix64(static_cast<std::uint64_t>(s * 1000 + p)) % 1000));
      rows.position.push_back(p);
      rows.slot.push_back(slot(s, p));
      if (!prefill) {
        rows.decode_map.push_back(s);
        rows.decode_length.push_back(p + 1);
        rows.decode_stable.push_back(lengths[s] - 3);
        rows.logits.push_back(rows.rows() - 1);
      }
    }
    if (prefill) {
      rows.prefill_begin.push_back(rows.rows());
      rows.prefill_map.push_back(s);
      rows.prefill_first.push_back(0);
      rows.logits.push_back(rows.rows() - 1);
    }
  }
  return rows;
}

std::vector<float> on_cpu(const Transformer& shape, bool table) {
  const CpuTransformer model(shape, *random_weights(1));
  kernels::cpu::ThreadPool threads(2);
  CpuTransformer::Workspace work;
  kernels::KvPool pool{nullptr, {shape.layers, shape.kv_heads, shape.head_dim, kSlots, DType::f32}};
  std::vector<float> data(static_cast<std::size_t>(pool.layout.elements()));
  pool.data = data.data();
  std::vector<float> logits;
  for (const bool prefill : {true, false}) {
    const auto part = model.forward(rows_of(prefill, table), pool, work, threads);
    logits.insert(logits.end(), part.begin(), part.end());
  }
  return logits;
}

std::vector<float> on_gpu(const Transformer& shape, DType dtype, LinearMode mode, bool table) {
  CudaTransformer model(shape, dtype, *random_weights(1), mode);
  kernels::KvPool pool{nullptr, {shape.layers, shape.kv_heads, shape.head_dim, kSlots, dtype}};
  DeviceTensor data(pool.layout.elements(), dtype, "a pool");
  data.fill_bytes(0xff);  // NaN
  pool.data = data.get();
  CudaTransformer::Workspace work(model, 256, 16);
  RowsUpload upload(256, 40);
  Stream stream;
  std::vector<float> logits;
  for (const bool prefill : {true, false}) {
    const ForwardRows rows = rows_of(prefill, table);
    DrawRows draws{.logits = rows.logits, .sampling = {}};
    draws.sampling.resize(rows.logits.size());
    const DeviceRows there = upload.pack(rows, draws, 0);
    upload.send(stream);
    model.forward(there, {}, pool, work, stream);
    std::vector<float> part(rows.logits.size() * static_cast<std::size_t>(shape.vocab));
    KVSTOW_CUDA(cudaStreamSynchronize(stream));
    KVSTOW_CUDA(cudaMemcpy(part.data(), work.logits(), part.size() * sizeof(float),
                           cudaMemcpyDeviceToHost));
    logits.insert(logits.end(), part.begin(), part.end());
  }
  return logits;
}

double relative_l2(const std::vector<float>& a, const std::vector<float>& b) {
  double error = 0;
  double norm = 0;
  for (std::size_t i = 0; i < a.size(); ++i) {
    error += (double{a[i]} - b[i]) * (double{a[i]} - b[i]);
    norm += double{b[i]} * b[i];
  }
  return std::sqrt(error / norm);
}

TEST(Forward, LogitsAreTheCpusUpToRounding) {
  if (!kernels::cuda::testing::have_device()) GTEST_SKIP() << "skipped: no CUDA device";
  for (const ModelFamily family : {ModelFamily::opt, ModelFamily::llama, ModelFamily::qwen3}) {
    const Transformer shape = small(family);
    const std::vector<float> reference = on_cpu(shape, true);
    for (const bool table : {true, false}) {
      for (const LinearMode mode : {LinearMode::fastest, LinearMode::deterministic}) {
        const auto f16 = on_gpu(shape, DType::f16, mode, table);
        const auto bf16 = on_gpu(shape, DType::bf16, mode, table);
        ASSERT_EQ(f16.size(), reference.size());
        // Three layers of 11 and of 8 bits of precision.
        EXPECT_LT(relative_l2(f16, reference), 3e-3) << static_cast<int>(family);
        EXPECT_LT(relative_l2(bf16, reference), 2.4e-2) << static_cast<int>(family);
        RecordProperty("l2_f16_" + std::to_string(static_cast<int>(family)),
                       std::to_string(relative_l2(f16, reference)));
        std::printf("family %d table %d: f16 %.2e bf16 %.2e\n", static_cast<int>(family), table,
                    relative_l2(f16, reference), relative_l2(bf16, reference));
      }
    }
  }
}

// What rounding cannot excuse: wrong angles, positions or epsilons of a part in a thousand.
TEST(Forward, LogitsInF32AreTheCpusToOnePartIn100000) {
  if (!kernels::cuda::testing::have_device()) GTEST_SKIP() << "skipped: no CUDA device";
  for (const ModelFamily family : {ModelFamily::opt, ModelFamily::llama, ModelFamily::qwen3}) {
    const Transformer shape = small(family);
    for (const bool table : {true, false}) {
      const auto f32 = on_gpu(shape, DType::f32, LinearMode::fastest, table);
      const double error = relative_l2(f32, on_cpu(shape, table));
      EXPECT_LT(error, 1e-5) << static_cast<int>(family);
      std::printf("family %d table %d: f32 %.2e\n", static_cast<int>(family), table, error);
    }
  }
}

}  // namespace
}  // namespace kvstow
