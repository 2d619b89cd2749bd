// A language model's shape, and the servers on which the paper (or we) ran it.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "core/config/yaml_reader.h"
#include "core/types.h"

namespace kvstow {

// One way of serving the model. `pool` and `host_pool` count the bytes of all GPUs together.
struct ServerConfig {
  std::string device;  // name of a file in bench/devices
  int tensor_parallel = 1;
  Bytes pool{0};
  Bytes host_pool{0};  // swap space
};

struct ModelConfig {
  std::string name;
  std::int64_t layers = 0;
  std::int64_t hidden = 0;
  std::int64_t heads = 0;
  std::int64_t kv_heads = 0;
  std::int64_t head_dim = 0;
  std::int64_t ffn = 0;  // width of the feed-forward layer
  std::int64_t vocab = 0;
  std::int64_t parameters = 0;  // count, not bytes
  std::string dtype = "f16";    // f32, f16 or bf16: of a weight, and of an element of K or V
  Tokens max_model_len{2048};   // prompt + output of one sequence

  // Only for executors that compute the model; a cost model needs none of it.
  std::string family;  // opt, llama or qwen3; empty: the file does not say
  bool tied_embeddings = false;
  double rope_theta = 10000;
  double norm_epsilon = 1e-5;
  std::string checkpoint;  // folder of a Hugging Face checkpoint; empty: seeded random weights

  std::vector<ServerConfig> servers;

  [[nodiscard]] std::int64_t element_bytes() const { return dtype == "f32" ? 4 : 2; }
  // K and V of one token over all layers and all GPUs.
  [[nodiscard]] Bytes kv_bytes_per_token() const {
    return Bytes(2 * layers * kv_heads * head_dim * element_bytes());
  }
  // nullptr where the model has no entry for that device.
  [[nodiscard]] const ServerConfig* server(std::string_view device) const;
};

// Reads bench/models/NAME.yaml; the file's `name` must be NAME.
[[nodiscard]] ModelConfig read_model(const ConfigNode& file);

}  // namespace kvstow
