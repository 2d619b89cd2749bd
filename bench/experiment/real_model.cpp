#include "bench/experiment/real_model.h"

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <iterator>
#include <map>
#include <mutex>

#include "core/text.h"

namespace kvstow {
namespace {

constexpr std::uint64_t kWeightSeed = 1;

void check_memory(const ResolvedPoint& point, const Transformer& shape) {
  std::int64_t elements = 0;
  for (const TensorSpec& spec : tensor_specs(shape)) elements += spec.elements();
  const std::int64_t slots = (point.pool_slots() + point.host_slots()).count();
  const std::int64_t needed =
      (elements + slots * shape.kv_elements()) * static_cast<std::int64_t>(sizeof(float));
  const std::int64_t there = std::int64_t{::sysconf(_SC_PHYS_PAGES)} * ::sysconf(_SC_PAGE_SIZE);
  if (needed > there) {
    throw InputError(fmt::format("{}: weights and pools need {}, this machine has {}",
                                 point.model.name, format_bytes(needed), format_bytes(there)));
  }
}

Transformer read_checkpoint_shape(const ModelConfig& model) {
  const Transformer shape = read_hf_config(model.checkpoint);
  if (shape.layers != model.layers || shape.kv_width() != model.kv_heads * model.head_dim) {
    throw InputError(
        fmt::format("{}/config.json: {} layers of {} K/V elements, but model {} says {} of {}",
                    model.checkpoint, shape.layers, shape.kv_width(), model.name, model.layers,
                    model.kv_heads * model.head_dim));
  }
  if (shape.max_positions < model.max_model_len.count()) {
    throw InputError(fmt::format("{}/config.json: {} positions, but model {} allows {} tokens",
                                 model.checkpoint, shape.max_positions, model.name,
                                 model.max_model_len.count()));
  }
  return shape;
}

}  // namespace

Transformer transformer_of(const ModelConfig& model) {
  if (!model.checkpoint.empty()) return read_checkpoint_shape(model);
  if (model.family.empty()) {
    throw InputError(fmt::format(
        "model {}: an executor that computes needs its `family` (opt, llama, qwen3)", model.name));
  }
  const bool opt = model.family == "opt";
  Transformer shape;
  shape.family = opt                       ? ModelFamily::opt
                 : model.family == "llama" ? ModelFamily::llama
                                           : ModelFamily::qwen3;
  shape.layers = static_cast<int>(model.layers);
  shape.hidden = static_cast<int>(model.hidden);
  shape.heads = static_cast<int>(model.heads);
  shape.kv_heads = static_cast<int>(model.kv_heads);
  shape.head_dim = static_cast<int>(model.head_dim);
  shape.ffn = static_cast<int>(model.ffn);
  shape.vocab = static_cast<int>(model.vocab);
  shape.max_positions = static_cast<int>(model.max_model_len.count());
  shape.layer_norm = shape.learned_positions = opt;
  shape.qkv_bias = shape.output_bias = shape.mlp_bias = opt;
  shape.gated = !opt;
  shape.qk_norm = shape.family == ModelFamily::qwen3;
  shape.tied_embeddings = model.tied_embeddings;
  shape.rope_theta = model.rope_theta;
  shape.norm_epsilon = static_cast<float>(model.norm_epsilon);
  shape.validate("model " + model.name);
  return shape;
}

void check_gpu_shape(const Transformer& shape, kernels::DType dtype, const std::string& where) {
  constexpr int kHeadDims[] = {64, 80, 96, 128, 256};
  const bool plain = dtype == kernels::DType::f32;
  const bool known = plain ? shape.head_dim % 16 == 0 && shape.head_dim <= 256
                           : std::find(std::begin(kHeadDims), std::end(kHeadDims),
                                       shape.head_dim) != std::end(kHeadDims);
  if (!known) {
    throw InputError(fmt::format("{}: executor cuda has kernels for head_dim {}, not {}", where,
                                 plain ? "16, 32, ... 256 (f32)" : "64, 80, 96, 128 and 256",
                                 shape.head_dim));
  }
  constexpr int kLargestWidth = 16384;
  if (shape.hidden % 8 != 0 || shape.hidden > kLargestWidth || shape.ffn % 8 != 0) {
    throw InputError(
        fmt::format("{}: executor cuda needs a hidden size and an ffn of multiples of 8, the first "
                    "at most {}, not {} and {}",
                    where, kLargestWidth, shape.hidden, shape.ffn));
  }
}

void check_computable(const ResolvedPoint& point) {
  const ModelConfig& model = point.model;
  const Transformer shape = transformer_of(model);
  const bool gpu = point.executor == "cuda";
  if ((model.dtype == "f32") == gpu) {
    throw InputError(fmt::format("model {}: executor {} computes in {}, its dtype is {}",
                                 model.name, point.executor, gpu ? "f16 or bf16" : "f32",
                                 model.dtype));
  }
  if (gpu) check_gpu_shape(shape, kernels::DType::bf16, "model " + model.name);
  constexpr int kLargestVocab = 262144;
  if (gpu && (shape.vocab % 8 != 0 || shape.vocab > kLargestVocab)) {
    throw InputError(
        fmt::format("model {}: executor cuda draws from a vocabulary of a multiple of 8, at most "
                    "{}, not {}",
                    model.name, kLargestVocab, shape.vocab));
  }
  if (!gpu) check_memory(point, shape);
}

std::unique_ptr<WeightSource> weights_of(const ModelConfig& model) {
  return model.checkpoint.empty() ? random_weights(kWeightSeed) : open_checkpoint(model.checkpoint);
}

std::shared_ptr<const CpuTransformer> cpu_model(const ResolvedPoint& point) {
  check_computable(point);
  const ModelConfig& model = point.model;
  static std::mutex mutex;
  static std::map<std::string, std::weak_ptr<const CpuTransformer>> loaded;
  const std::lock_guard lock(mutex);
  std::weak_ptr<const CpuTransformer>& known = loaded[model.name];
  if (auto shared = known.lock()) return shared;
  const Transformer shape = transformer_of(model);
  const auto fresh = std::make_shared<const CpuTransformer>(shape, *weights_of(model));
  known = fresh;
  return fresh;
}

}  // namespace kvstow
