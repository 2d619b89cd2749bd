#include "core/config/model_config.h"

#include <algorithm>

namespace kvstow {
namespace {

ServerConfig read_server(const ConfigNode& node) {
  const ConfigMap map(node, {"device", "tensor_parallel", "pool_bytes", "host_pool_bytes"});
  ServerConfig server;
  server.device = map.at("device").text();
  server.tensor_parallel = map.at("tensor_parallel").count_at_least(1);
  server.pool = Bytes(map.at("pool_bytes").integer_at_least(1));
  server.host_pool = Bytes(map.at("host_pool_bytes").integer_at_least(0));
  return server;
}

}  // namespace

const ServerConfig* ModelConfig::server(std::string_view device) const {
  const auto found = std::find_if(servers.begin(), servers.end(),
                                  [&](const ServerConfig& s) { return s.device == device; });
  return found == servers.end() ? nullptr : &*found;
}

ModelConfig read_model(const ConfigNode& file) {
  const ConfigMap map(
      file, {"name", "layers", "hidden", "heads", "kv_heads", "head_dim", "ffn", "vocab",
             "parameters", "dtype", "max_model_len", "family", "tied_embeddings", "rope_theta",
             "norm_epsilon", "checkpoint", "servers"});
  const auto count = [&](const char* key) { return map.at(key).count_at_least(1); };
  ModelConfig model;
  model.name = map.at("name").text();
  model.layers = count("layers");
  model.hidden = count("hidden");
  model.heads = count("heads");
  model.kv_heads = count("kv_heads");
  model.head_dim = count("head_dim");
  model.ffn = count("ffn");
  model.vocab = count("vocab");
  model.parameters = map.at("parameters").integer_at_least(1);
  const std::vector<std::string> dtypes = {"f32", "f16", "bf16"};
  model.dtype = map.at("dtype").name("dtype", dtypes);
  model.max_model_len = Tokens(count("max_model_len"));
  if (model.heads % model.kv_heads != 0) {
    map.at("kv_heads").fail("must divide heads");
  }
  const std::vector<std::string> families = {"opt", "llama", "qwen3"};
  if (const auto family = map.find("family")) model.family = family->name("family", families);
  if (const auto tied = map.find("tied_embeddings")) model.tied_embeddings = tied->boolean();
  if (const auto theta = map.find("rope_theta")) model.rope_theta = theta->number_above(0);
  if (const auto epsilon = map.find("norm_epsilon")) {
    model.norm_epsilon = epsilon->number_above(0);
  }
  if (const auto folder = map.find("checkpoint")) model.checkpoint = folder->text();
  for (const ConfigNode& server : map.at("servers").items()) {
    model.servers.push_back(read_server(server));
  }
  return model;
}

}  // namespace kvstow
