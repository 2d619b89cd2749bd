// What a decoder-only transformer is made of: one description for OPT, LLaMA and Qwen3, so that
// executors know parts and not families.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace kvstow {

// The first rows of OPT's position table belong to padding.
inline constexpr int kPositionOffset = 2;

enum class ModelFamily : std::uint8_t { opt, llama, qwen3 };

struct Transformer {
  ModelFamily family = ModelFamily::qwen3;  // decides the tensors' names, nothing else

  int layers = 0;
  int hidden = 0;
  int heads = 0;
  int kv_heads = 0;  // divides heads
  int head_dim = 0;  // heads * head_dim need not be hidden
  int ffn = 0;
  int vocab = 0;
  int max_positions = 0;

  bool layer_norm = false;         // LayerNorm with weight and bias; otherwise RMSNorm
  bool gated = true;               // down(silu(gate(x)) * up(x)); otherwise down(relu(up(x)))
  bool learned_positions = false;  // a table of max_positions + 2 rows, the first two unused (OPT)
  bool qk_norm = false;            // RMSNorm over each head of q and k, before RoPE
  bool qkv_bias = false;
  bool output_bias = false;  // of the attention's output projection
  bool mlp_bias = false;
  bool tied_embeddings = false;  // the output layer is the token embedding
  float norm_epsilon = 1e-5f;
  double rope_theta = 10000;  // where positions are not learned

  [[nodiscard]] int q_width() const { return heads * head_dim; }
  [[nodiscard]] int kv_width() const { return kv_heads * head_dim; }
  // Of what the first product of attention and the first of the MLP leave of one row: queries, keys
  // and values; gate and up.
  [[nodiscard]] int qkv_width() const { return q_width() + 2 * kv_width(); }
  [[nodiscard]] int up_width() const { return gated ? 2 * ffn : ffn; }
  // K and V of one token over all layers, in elements.
  [[nodiscard]] std::int64_t kv_elements() const { return std::int64_t{2} * layers * kv_width(); }

  // Throws InputError, naming `file`, where a shape is out of range or inconsistent.
  void validate(const std::string& file) const;
};

// The parts of one layer, then those outside the layers.
enum class Weight : std::uint8_t {
  attention_norm,
  attention_norm_bias,
  q,
  q_bias,
  k,
  k_bias,
  v,
  v_bias,
  o,
  o_bias,
  q_norm,
  k_norm,
  mlp_norm,
  mlp_norm_bias,
  gate,
  up,
  up_bias,
  down,
  down_bias,
  token_embedding,
  position_embedding,
  final_norm,
  final_norm_bias,
  lm_head,
};

// A tensor as a Hugging Face checkpoint names it; matrices are [out, in].
struct TensorSpec {
  std::string name;
  std::vector<std::int64_t> shape;

  [[nodiscard]] std::int64_t elements() const;
};

// The tensor of one part, or none where this model has no such part. `layer` is ignored outside
// the layers.
[[nodiscard]] std::optional<TensorSpec> tensor_spec(const Transformer&, Weight, int layer);

// All tensors, in a fixed order.
[[nodiscard]] std::vector<TensorSpec> tensor_specs(const Transformer&);

// Reads DIR/config.json of a Hugging Face model. Throws InputError naming the file and the key.
[[nodiscard]] Transformer read_hf_config(const std::string& directory);

// The same from text; `file` stands for it in messages.
[[nodiscard]] Transformer parse_hf_config(const std::string& text, const std::string& file);

}  // namespace kvstow
