// Our forward pass against Hugging Face transformers, in f32: the logits after the prompt and after
// each of 64 decoded tokens. tests/cpu/hf/make_expected.py made the expected values.
#include <gtest/gtest.h>

#include <cmath>

#include "core/exec/cpu/cpu_transformer.h"
#include "core/exec/model/safetensors.h"

namespace kvstow {
namespace {

const std::string kFolder = std::string(KVSTOW_SOURCE_DIR) + "/tests/cpu/hf/";

std::vector<float> read_all(const Safetensors& file, const std::string& name) {
  const TensorEntry& entry = file.tensors().at(name);
  std::vector<float> values((entry.end - entry.begin) / sizeof(float));
  file.read(name, entry.shape, values);
  return values;
}

// One sequence alone, in slots [3, ...) or in blocks that lie backwards in the pool.
class Alone {
 public:
  Alone(const CpuTransformer& model, int block_tokens) : model_(model) {
    const Transformer& shape = model.shape();
    const int unit = block_tokens == 0 ? 1 : block_tokens;
    const int blocks = shape.max_positions / unit + 1;
    const std::int64_t slots = std::int64_t{blocks} * unit + 3;
    pool_.layout = {shape.layers, shape.kv_heads, shape.head_dim, slots, kernels::DType::f32};
    data_.assign(static_cast<std::size_t>(pool_.layout.elements()), NAN);
    pool_.data = data_.data();
    rows_.block_tokens = block_tokens;
    rows_.first = {3};
    for (int b = 0; b < blocks; ++b) rows_.table.push_back(blocks - 1 - b);
    rows_.table_stride = blocks;
  }

  // The logits after the last of the tokens, which all stand at the end of what was fed before.
  std::span<const float> feed(std::span<const float> tokens) {
    ForwardRows rows;
    rows.block_tokens = rows_.block_tokens;
    rows.first = rows_.first;
    rows.table = rows_.table;
    rows.table_stride = rows_.table_stride;
    const kernels::AffineMap affine{rows.first.data()};
    const kernels::BlockTableMap table{rows.table.data(), rows.table_stride, rows.block_tokens};
    const int first = length_;
    for (const float token : tokens) {
      rows.token.push_back(static_cast<std::int32_t>(token));
      rows.position.push_back(length_);
      rows.slot.push_back(rows.block_tokens == 0 ? affine.slot(0, length_)
                                                 : table.slot(0, length_));
      ++length_;
    }
    if (first == 0) {
      rows.prefill_begin.push_back(rows.rows());
      rows.prefill_map = {0};
      rows.prefill_first = {0};
    } else {
      rows.decode_map = {0};
      rows.decode_length = {length_};
    }
    rows.logits = {rows.rows() - 1};
    return model_.forward(rows, pool_, work_, threads_);
  }

 private:
  const CpuTransformer& model_;
  std::vector<float> data_;
  kernels::KvPool pool_{};
  ForwardRows rows_;
  int length_ = 0;
  CpuTransformer::Workspace work_;
  kernels::cpu::ThreadPool threads_{2};
};

class HfLogits : public ::testing::TestWithParam<const char*> {};

TEST_P(HfLogits, AgreeToOnePartIn100000WithTheSameGreedyTokens) {
  const std::string folder = kFolder + GetParam();
  const Transformer shape = read_hf_config(folder);
  const bool saved = std::string(GetParam()).starts_with("saved-");
  const auto source = saved ? open_checkpoint(folder) : random_weights(1);
  const CpuTransformer model(shape, *source);

  const MappedFile file(folder + "/expected.safetensors");
  const Safetensors expected(file.bytes(), "expected.safetensors");
  const std::vector<float> prompt = read_all(expected, "prompt");
  const std::vector<float> tokens = read_all(expected, "tokens");
  const std::vector<float> logits = read_all(expected, "logits");
  ASSERT_EQ(tokens.size(), 65u);
  const auto vocab = static_cast<std::size_t>(shape.vocab);
  ASSERT_EQ(logits.size(), tokens.size() * vocab);

  for (const int block_tokens : {0, 7}) {
    Alone sequence(model, block_tokens);
    for (std::size_t i = 0; i < tokens.size(); ++i) {
      const std::span<const float> got =
          i == 0 ? sequence.feed(prompt) : sequence.feed({&tokens[i - 1], 1});
      double error = 0;
      double norm = 0;
      for (std::size_t t = 0; t < vocab; ++t) {
        const double want = double{logits[i * vocab + t]};
        error += std::pow(double{got[t]} - want, 2);
        norm += want * want;
      }
      ASSERT_LT(std::sqrt(error / norm), 1e-5) << "step " << i << ", block " << block_tokens;
      ASSERT_EQ(std::max_element(got.begin(), got.end()) - got.begin(), tokens[i]) << "step " << i;
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Cases, HfLogits,
                         ::testing::Values("opt-4-heads", "opt-long-prompt", "llama-gqa-1",
                                           "llama-gqa-8", "qwen3-gqa-2", "qwen3-gqa-4",
                                           "saved-opt-f32", "saved-llama-f16",
                                           "saved-qwen3-bf16-sharded"),
                         [](const auto& each) {
                           std::string name = each.param;
                           std::replace(name.begin(), name.end(), '-', '_');
                           return name;
                         });

}  // namespace
}  // namespace kvstow
