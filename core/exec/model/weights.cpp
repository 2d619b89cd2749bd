#include "core/exec/model/weights.h"

#include <fmt/format.h>

#include <cmath>
#include <filesystem>
#include <fstream>
#include <map>
#include <nlohmann/json.hpp>

#include "core/check.h"
#include "core/rng.h"
#include "core/text.h"

namespace kvstow {
namespace {

struct Shard {
  explicit Shard(const std::string& path) : file(path), tensors(file.bytes(), path) {}
  MappedFile file;
  Safetensors tensors;
};

class Checkpoint final : public WeightSource {
 public:
  explicit Checkpoint(const std::string& directory) {
    const std::string single = directory + "/model.safetensors";
    const std::string index = single + ".index.json";
    if (std::filesystem::exists(index)) {
      open_shards(directory, index);
    } else {
      shards_.emplace("", std::make_unique<Shard>(single));
    }
  }

  void read(const TensorSpec& spec, std::span<float> out) const override {
    const auto [file, name] = find(spec);
    file.read(name, spec.shape, out);
  }

  [[nodiscard]] std::span<const std::byte> stored(const TensorSpec& spec,
                                                  TensorType type) const override {
    const auto [file, name] = find(spec);
    return file.bytes(name, spec.shape, type);
  }

 private:
  struct Place {
    const Safetensors& file;
    std::string name;
  };

  // Checkpoints saved from the bare model lack the leading "model.".
  [[nodiscard]] Place find(const TensorSpec& spec) const {
    const std::string bare = spec.name.starts_with("model.") ? spec.name.substr(6) : spec.name;
    if (shard_of_.empty()) {
      const Safetensors& only = shards_.begin()->second->tensors;
      const bool as_bare = !only.tensors().contains(spec.name) && only.tensors().contains(bare);
      return {only, as_bare ? bare : spec.name};
    }
    for (const std::string& name : {spec.name, bare}) {
      if (const auto found = shard_of_.find(name); found != shard_of_.end()) {
        return {shards_.at(found->second)->tensors, name};
      }
    }
    std::vector<std::string> names;
    for (const auto& [name, shard] : shard_of_) names.push_back(name);
    throw InputError(fmt::format("{}: tensor {}: missing (nearest: {})", index_, spec.name,
                                 nearest_name(spec.name, names)));
  }

  void open_shards(const std::string& directory, const std::string& index) {
    index_ = index;
    std::ifstream stream(index, std::ios::binary);
    const auto json = nlohmann::json::parse(stream, nullptr, false);
    const bool usable = json.is_object() && json.contains("weight_map") &&
                        json["weight_map"].is_object() && !json["weight_map"].empty();
    if (!usable) throw InputError(index + ": needs an object `weight_map`");
    for (const auto& [tensor, shard] : json["weight_map"].items()) {
      const std::string name = shard.is_string() ? shard.get<std::string>() : "";
      if (name.empty() || name.find('/') != std::string::npos) {
        throw InputError(fmt::format("{}: tensor {}: not a file of this folder", index, tensor));
      }
      auto& opened = shards_[name];
      if (!opened) opened = std::make_unique<Shard>(directory + "/" + name);
      shard_of_[tensor] = name;
    }
  }

  std::string index_;
  std::map<std::string, std::unique_ptr<Shard>> shards_;
  std::map<std::string, std::string> shard_of_;  // empty for a single file
};

class RandomWeights final : public WeightSource {
 public:
  explicit RandomWeights(std::uint64_t seed) : seed_(seed) {}

  void read(const TensorSpec& spec, std::span<float> out) const override {
    const UniformTensor tensor = uniform(spec).value();
    RandomStream stream(tensor.key);
    for (float& value : out) {
      value = static_cast<float>(tensor.mean + tensor.scale * (2 * stream.uniform() - 1));
    }
  }

  [[nodiscard]] std::optional<UniformTensor> uniform(const TensorSpec& spec) const override {
    const bool matrix = spec.shape.size() == 2;
    const bool norm = !matrix && !spec.name.ends_with("bias");
    // A uniform number in [-1, 1) has variance 1/3.
    const double scale = matrix ? std::sqrt(3.0 / static_cast<double>(spec.shape[1])) : 0.2;
    return UniformTensor{RandomStream::key(seed_, "weights/" + spec.name), norm ? 1.0 : 0.0, scale};
  }

 private:
  std::uint64_t seed_;
};

}  // namespace

std::unique_ptr<WeightSource> open_checkpoint(const std::string& directory) {
  return std::make_unique<Checkpoint>(directory);
}

std::unique_ptr<WeightSource> random_weights(std::uint64_t seed) {
  return std::make_unique<RandomWeights>(seed);
}

}  // namespace kvstow
