// Where a model's weights come from: a Hugging Face checkpoint, or a seed.
#pragma once

#include <memory>
#include <optional>
#include <span>
#include <string>

#include "core/exec/model/safetensors.h"
#include "core/exec/model/transformer.h"

namespace kvstow {

// A tensor of random numbers: element i is mean + scale * (2 u_i - 1), u_i being number i of the
// RandomStream with this key.
struct UniformTensor {
  std::uint64_t key;
  double mean;
  double scale;
};

class WeightSource {
 public:
  virtual ~WeightSource() = default;
  // Fills `out` with a tensor in f32, row-major. REQUIRES: out.size() == spec.elements().
  virtual void read(const TensorSpec&, std::span<float> out) const = 0;
  // The tensor's bytes where a file holds it in this type, row-major: a device takes them as they
  // are. Empty otherwise.
  [[nodiscard]] virtual std::span<const std::byte> stored(const TensorSpec&, TensorType) const {
    return {};
  }
  // Where the tensor is random, how: a device then draws the same numbers without the host.
  [[nodiscard]] virtual std::optional<UniformTensor> uniform(const TensorSpec&) const {
    return std::nullopt;
  }
};

// DIR/model.safetensors, or the shards that DIR/model.safetensors.index.json lists. Memory-mapped;
// tensors are checked when they are read. Throws InputError naming file and tensor.
[[nodiscard]] std::unique_ptr<WeightSource> open_checkpoint(const std::string& directory);

// Uniform weights of any shape: a matrix [out, in] with variance 1 / in, so that activations keep
// their size through the layers; embeddings with variance 1 / hidden, small enough that a token
// does not simply predict itself through tied embeddings; norm weights around 1. Each tensor has
// its own stream (its name), so one of them does not depend on the others.
[[nodiscard]] std::unique_ptr<WeightSource> random_weights(std::uint64_t seed);

}  // namespace kvstow
