// config.json of a Hugging Face checkpoint -> Transformer. What we cannot compute exactly is
// refused by name rather than approximated.
#include <fmt/format.h>

#include <fstream>
#include <nlohmann/json.hpp>
#include <sstream>

#include "core/check.h"
#include "core/exec/model/transformer.h"
#include "core/text.h"

namespace kvstow {
namespace {

using Json = nlohmann::json;

class Reader {
 public:
  Reader(const Json& json, const std::string& file) : json_(json), file_(file) {}

  [[noreturn]] void fail(const std::string& what) const { throw InputError(file_ + ": " + what); }

  [[nodiscard]] int integer(const char* key, std::optional<int> otherwise = std::nullopt) const {
    const Json* value = find(key);
    if (value == nullptr) return required(key, otherwise);
    if (!value->is_number_integer()) fail(fmt::format("`{}` must be an integer", key));
    const auto wide = value->get<std::int64_t>();
    if (wide < 0 || wide > (1 << 30)) fail(fmt::format("`{}`: {} is out of range", key, wide));
    return static_cast<int>(wide);
  }

  [[nodiscard]] double number(const char* key, std::optional<double> otherwise) const {
    const Json* value = find(key);
    if (value == nullptr) return required(key, otherwise);
    if (!value->is_number()) fail(fmt::format("`{}` must be a number", key));
    return value->get<double>();
  }

  [[nodiscard]] bool boolean(const char* key, bool otherwise) const {
    const Json* value = find(key);
    if (value == nullptr) return otherwise;
    if (!value->is_boolean()) fail(fmt::format("`{}` must be true or false", key));
    return value->get<bool>();
  }

  [[nodiscard]] std::string text(const char* key, const std::string& otherwise) const {
    const Json* value = find(key);
    if (value == nullptr) return otherwise;
    if (!value->is_string()) fail(fmt::format("`{}` must be a string", key));
    return value->get<std::string>();
  }

  // Refuses every value but the one we implement.
  void only_text(const char* key, const std::string& supported) const {
    if (const std::string value = text(key, supported); value != supported) {
      fail(fmt::format("`{}`: \"{}\" is not supported (only \"{}\")", key, value, supported));
    }
  }
  void only_flag(const char* key, bool supported) const {
    if (boolean(key, supported) != supported) {
      fail(fmt::format("`{}`: {} is not supported", key, !supported));
    }
  }

  // The value of a key, null and absent being the same; nullptr where there is none.
  [[nodiscard]] const Json* find(const char* key) const {
    const auto found = json_.find(key);
    return found == json_.end() || found->is_null() ? nullptr : &*found;
  }

 private:
  template <class T>
  T required(const char* key, const std::optional<T>& otherwise) const {
    if (!otherwise) fail(fmt::format("`{}` is missing", key));
    return *otherwise;
  }

  const Json& json_;
  const std::string& file_;
};

// transformers 4 writes rope_theta and rope_scaling, transformers 5 rope_parameters.
void read_rope(const Reader& in, Transformer& m, const std::string& file) {
  m.rope_theta = in.number("rope_theta", 10000.0);
  for (const char* key : {"rope_scaling", "rope_parameters"}) {
    const Json* rope = in.find(key);
    if (rope == nullptr) continue;
    if (!rope->is_object()) in.fail(fmt::format("`{}` must be an object", key));
    const Reader inner(*rope, file);
    inner.only_text("rope_type", "default");
    inner.only_text("type", "default");
    m.rope_theta = inner.number("rope_theta", m.rope_theta);
  }
}

void read_opt(const Reader& in, Transformer& m) {
  m.kv_heads = m.heads;
  m.head_dim = m.heads > 0 ? m.hidden / m.heads : 0;
  if (m.head_dim * m.heads != m.hidden) in.fail("`hidden_size` is not a multiple of the heads");
  m.ffn = in.integer("ffn_dim");
  m.layer_norm = true;
  m.gated = false;
  m.learned_positions = true;
  m.qkv_bias = m.output_bias = m.mlp_bias = in.boolean("enable_bias", true);
  m.tied_embeddings = in.boolean("tie_word_embeddings", true);
  m.norm_epsilon = 1e-5f;
  in.only_text("activation_function", "relu");
  in.only_flag("do_layer_norm_before", true);
  in.only_flag("layer_norm_elementwise_affine", true);
  in.only_flag("_remove_final_layer_norm", false);
  if (in.integer("word_embed_proj_dim", m.hidden) != m.hidden) {
    in.fail("`word_embed_proj_dim` other than `hidden_size` is not supported");
  }
}

void read_llama_like(const Reader& in, Transformer& m, const std::string& file) {
  m.kv_heads = in.integer("num_key_value_heads", m.heads);
  const bool qwen3 = m.family == ModelFamily::qwen3;
  m.head_dim = in.integer("head_dim", qwen3 ? 128 : m.heads > 0 ? m.hidden / m.heads : 0);
  m.ffn = in.integer("intermediate_size");
  m.qk_norm = qwen3;
  m.qkv_bias = m.output_bias = in.boolean("attention_bias", false);
  m.tied_embeddings = in.boolean("tie_word_embeddings", false);
  m.norm_epsilon = static_cast<float>(in.number("rms_norm_eps", 1e-6));
  in.only_text("hidden_act", "silu");
  in.only_flag("mlp_bias", false);
  in.only_flag("use_sliding_window", false);
  read_rope(in, m, file);
}

}  // namespace

Transformer parse_hf_config(const std::string& text, const std::string& file) {
  const Json json = Json::parse(text, nullptr, false);
  const Reader in(json, file);
  if (json.is_discarded() || !json.is_object()) in.fail("not a JSON object");

  static const std::vector<std::string> kFamilies = {"opt", "llama", "qwen3"};
  const std::string type = in.text("model_type", "");
  if (type.empty()) in.fail("`model_type` is missing");
  const auto known = std::find(kFamilies.begin(), kFamilies.end(), type);
  if (known == kFamilies.end()) {
    in.fail(fmt::format("model_type \"{}\" is not supported (opt, llama, qwen3; nearest: {})", type,
                        nearest_name(type, kFamilies)));
  }
  Transformer m;
  m.family = static_cast<ModelFamily>(known - kFamilies.begin());
  m.layers = in.integer("num_hidden_layers");
  m.hidden = in.integer("hidden_size");
  m.heads = in.integer("num_attention_heads");
  m.vocab = in.integer("vocab_size");
  m.max_positions = in.integer("max_position_embeddings");
  m.family == ModelFamily::opt ? read_opt(in, m) : read_llama_like(in, m, file);
  m.validate(file);
  return m;
}

Transformer read_hf_config(const std::string& directory) {
  const std::string file = directory + "/config.json";
  std::ifstream stream(file, std::ios::binary);
  if (!stream) throw InputError(file + ": cannot be read");
  std::ostringstream text;
  text << stream.rdbuf();
  return parse_hf_config(text.str(), file);
}

}  // namespace kvstow
