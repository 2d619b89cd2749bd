// A transformer's forward pass over the rows of one step, with K and V in slots.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "core/exec/cpu/float_array.h"
#include "core/exec/model/rope.h"
#include "core/exec/model/transformer.h"
#include "core/exec/model/weights.h"
#include "core/exec/rows/forward_rows.h"
#include "kernels/cpu/cpu.h"

namespace kvstow {

// The weights in the kernels' packed form. Immutable, so that several executors may share it.
class CpuTransformer {
 public:
  CpuTransformer(const Transformer&, const WeightSource&);

  [[nodiscard]] const Transformer& shape() const { return shape_; }
  [[nodiscard]] std::size_t weight_bytes() const;  // read by one decode step

  // Buffers of a forward pass; grow to the largest step seen.
  struct Workspace {
    std::vector<float> hidden, normed, qkv, attended, mlp, last, logits;
  };

  // Writes the rows' K and V into the pool and returns [rows.logits.size(), vocab], valid until the
  // workspace is used again. A row's bits depend on its own sequence alone.
  std::span<const float> forward(const ForwardRows&, const kernels::KvPool&, Workspace&,
                                 kernels::cpu::ThreadPool&) const;

 private:
  struct Linear {
    int in = 0;
    int out = 0;
    FloatArray weight;  // packed
    std::vector<float> bias;
  };
  struct Norm {
    std::vector<float> weight, bias;
  };
  struct Layer {
    Norm attention_norm, mlp_norm;
    std::vector<float> q_norm, k_norm;
    Linear qkv, o;
    Linear up;  // gate and up side by side where gated
    Linear down;
  };
  struct Loader;

  template <class Map>
  void attention(const ForwardRows&, const Map&, const kernels::KvPool&, int layer, Workspace&,
                 kernels::cpu::ThreadPool&) const;
  void linear(const Linear&, int rows, const float* x, std::int64_t x_stride, float* y,
              const float* residual, kernels::cpu::ThreadPool&) const;
  void norm(const Norm&, int rows, const float* x, float* y, kernels::cpu::ThreadPool&) const;

  Transformer shape_;
  std::vector<float> token_embedding_, position_embedding_;
  RopeTable rope_;
  std::vector<Layer> layers_;
  Norm final_norm_;
  Linear lm_head_;
};

}  // namespace kvstow
