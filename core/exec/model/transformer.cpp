#include "core/exec/model/transformer.h"

#include <fmt/format.h>

#include "core/check.h"

namespace kvstow {
namespace {

// Names by family. {} is the layer; an empty name: the family has no such part.
struct Part {
  Weight weight;
  bool in_layer;
  const char* opt;
  const char* llama;  // and Qwen3
};

constexpr Part kParts[] = {
    {Weight::token_embedding, false, "model.decoder.embed_tokens.weight",
     "model.embed_tokens.weight"},
    {Weight::position_embedding, false, "model.decoder.embed_positions.weight", ""},
    {Weight::attention_norm, true, "model.decoder.layers.{}.self_attn_layer_norm.weight",
     "model.layers.{}.input_layernorm.weight"},
    {Weight::attention_norm_bias, true, "model.decoder.layers.{}.self_attn_layer_norm.bias", ""},
    {Weight::q, true, "model.decoder.layers.{}.self_attn.q_proj.weight",
     "model.layers.{}.self_attn.q_proj.weight"},
    {Weight::q_bias, true, "model.decoder.layers.{}.self_attn.q_proj.bias",
     "model.layers.{}.self_attn.q_proj.bias"},
    {Weight::k, true, "model.decoder.layers.{}.self_attn.k_proj.weight",
     "model.layers.{}.self_attn.k_proj.weight"},
    {Weight::k_bias, true, "model.decoder.layers.{}.self_attn.k_proj.bias",
     "model.layers.{}.self_attn.k_proj.bias"},
    {Weight::v, true, "model.decoder.layers.{}.self_attn.v_proj.weight",
     "model.layers.{}.self_attn.v_proj.weight"},
    {Weight::v_bias, true, "model.decoder.layers.{}.self_attn.v_proj.bias",
     "model.layers.{}.self_attn.v_proj.bias"},
    {Weight::o, true, "model.decoder.layers.{}.self_attn.out_proj.weight",
     "model.layers.{}.self_attn.o_proj.weight"},
    {Weight::o_bias, true, "model.decoder.layers.{}.self_attn.out_proj.bias",
     "model.layers.{}.self_attn.o_proj.bias"},
    {Weight::q_norm, true, "", "model.layers.{}.self_attn.q_norm.weight"},
    {Weight::k_norm, true, "", "model.layers.{}.self_attn.k_norm.weight"},
    {Weight::mlp_norm, true, "model.decoder.layers.{}.final_layer_norm.weight",
     "model.layers.{}.post_attention_layernorm.weight"},
    {Weight::mlp_norm_bias, true, "model.decoder.layers.{}.final_layer_norm.bias", ""},
    {Weight::gate, true, "", "model.layers.{}.mlp.gate_proj.weight"},
    {Weight::up, true, "model.decoder.layers.{}.fc1.weight", "model.layers.{}.mlp.up_proj.weight"},
    {Weight::up_bias, true, "model.decoder.layers.{}.fc1.bias", ""},
    {Weight::down, true, "model.decoder.layers.{}.fc2.weight",
     "model.layers.{}.mlp.down_proj.weight"},
    {Weight::down_bias, true, "model.decoder.layers.{}.fc2.bias", ""},
    {Weight::final_norm, false, "model.decoder.final_layer_norm.weight", "model.norm.weight"},
    {Weight::final_norm_bias, false, "model.decoder.final_layer_norm.bias", ""},
    {Weight::lm_head, false, "lm_head.weight", "lm_head.weight"},
};

// Empty: this model has no such part.
std::vector<std::int64_t> shape_of(const Transformer& m, Weight weight) {
  const auto vector_if = [](bool there, std::int64_t n) {
    return there ? std::vector<std::int64_t>{n} : std::vector<std::int64_t>{};
  };
  switch (weight) {
    case Weight::attention_norm:
    case Weight::mlp_norm:
    case Weight::final_norm:
      return {m.hidden};
    case Weight::attention_norm_bias:
    case Weight::mlp_norm_bias:
    case Weight::final_norm_bias:
      return vector_if(m.layer_norm, m.hidden);
    case Weight::q:
      return {m.q_width(), m.hidden};
    case Weight::k:
    case Weight::v:
      return {m.kv_width(), m.hidden};
    case Weight::q_bias:
      return vector_if(m.qkv_bias, m.q_width());
    case Weight::k_bias:
    case Weight::v_bias:
      return vector_if(m.qkv_bias, m.kv_width());
    case Weight::o:
      return {m.hidden, m.q_width()};
    case Weight::o_bias:
      return vector_if(m.output_bias, m.hidden);
    case Weight::q_norm:
    case Weight::k_norm:
      return vector_if(m.qk_norm, m.head_dim);
    case Weight::gate:
      if (!m.gated) return {};
      return {m.ffn, m.hidden};
    case Weight::up:
      return {m.ffn, m.hidden};
    case Weight::up_bias:
      return vector_if(m.mlp_bias, m.ffn);
    case Weight::down:
      return {m.hidden, m.ffn};
    case Weight::down_bias:
      return vector_if(m.mlp_bias, m.hidden);
    case Weight::token_embedding:
      return {m.vocab, m.hidden};
    case Weight::position_embedding:
      if (!m.learned_positions) return {};
      return {m.max_positions + kPositionOffset, m.hidden};
    case Weight::lm_head:
      if (m.tied_embeddings) return {};
      return {m.vocab, m.hidden};
  }
  return {};
}

std::optional<TensorSpec> spec_of(const Transformer& model, const Part& part, int layer) {
  std::vector<std::int64_t> shape = shape_of(model, part.weight);
  if (shape.empty()) return std::nullopt;
  const char* name = model.family == ModelFamily::opt ? part.opt : part.llama;
  return TensorSpec{fmt::format(fmt::runtime(name), layer), std::move(shape)};
}

}  // namespace

std::int64_t TensorSpec::elements() const {
  std::int64_t product = 1;
  for (const std::int64_t extent : shape) product *= extent;
  return product;
}

std::optional<TensorSpec> tensor_spec(const Transformer& model, Weight weight, int layer) {
  for (const Part& part : kParts) {
    if (part.weight == weight) return spec_of(model, part, layer);
  }
  return std::nullopt;
}

std::vector<TensorSpec> tensor_specs(const Transformer& model) {
  std::vector<TensorSpec> specs;
  for (const Part& part : kParts) {
    for (int layer = 0; layer < (part.in_layer ? model.layers : 1); ++layer) {
      if (auto spec = spec_of(model, part, layer)) specs.push_back(std::move(*spec));
    }
  }
  return specs;
}

void Transformer::validate(const std::string& file) const {
  struct Range {
    const char* what;
    std::int64_t value, least, most;
  };
  // Far beyond any published model, and small enough that no product below overflows.
  for (const Range& r :
       {Range{"layers", layers, 1, 1000}, Range{"hidden size", hidden, 1, 1 << 17},
        Range{"attention heads", heads, 1, 1 << 12}, Range{"key/value heads", kv_heads, 1, 1 << 12},
        Range{"head dimension", head_dim, 1, 1 << 12}, Range{"feed-forward size", ffn, 1, 1 << 20},
        Range{"vocabulary", vocab, 1, 1 << 22}, Range{"positions", max_positions, 1, 1 << 24}}) {
    if (r.value < r.least || r.value > r.most) {
      throw InputError(
          fmt::format("{}: {} {} is not in [{}, {}]", file, r.what, r.value, r.least, r.most));
    }
  }
  if (heads % kv_heads != 0) {
    throw InputError(fmt::format("{}: {} attention heads are not a multiple of {} key/value heads",
                                 file, heads, kv_heads));
  }
  if (!learned_positions && head_dim % 2 != 0) {
    throw InputError(
        fmt::format("{}: rotary positions need an even head dimension, not {}", file, head_dim));
  }
  if (!(norm_epsilon > 0) || !(norm_epsilon < 1)) {
    throw InputError(fmt::format("{}: norm epsilon {} is not in (0, 1)", file, norm_epsilon));
  }
  if (!(rope_theta >= 1) || !(rope_theta <= 1e12)) {
    throw InputError(fmt::format("{}: rope theta {} is not in [1, 1e12]", file, rope_theta));
  }
}

}  // namespace kvstow
