// A transformer's forward pass on the GPU over the rows of one step, with K and V in slots.
#pragma once

#include <array>
#include <map>
#include <memory>
#include <vector>

#include "core/exec/cuda/device_rows.h"
#include "core/exec/cuda/device_tensor.h"
#include "core/exec/cuda/launch_marks.h"
#include "core/exec/cuda/linear.h"
#include "core/exec/cuda/weight_upload.h"
#include "core/exec/model/transformer.h"
#include "core/exec/model/weights.h"
#include "kernels/cuda/decode_attention.h"
#include "kernels/cuda/layers.h"
#include "kernels/cuda/thin_qkv.h"
#include "kernels/kernels.h"

namespace kvstow {

// The weights on the device. One executor at a time. f16 and bf16 are for work; f32 tells a wrong
// model from rounding (plain attention, no tensor cores).
class CudaTransformer {
 public:
  // Throws InputError where there is no device, or too little memory on it.
  CudaTransformer(const Transformer&, kernels::DType, const WeightSource&, LinearMode);

  [[nodiscard]] const Transformer& shape() const { return shape_; }
  [[nodiscard]] kernels::DType dtype() const { return dtype_; }

  // Buffers of a forward pass over up to `rows` rows, of which `draws` have logits.
  class Workspace {
   public:
    Workspace(const CudaTransformer&, int rows, int draws);
    Workspace(const Workspace&) = delete;
    Workspace& operator=(const Workspace&) = delete;
    [[nodiscard]] int rows() const { return rows_; }
    [[nodiscard]] int draws() const { return draws_; }
    [[nodiscard]] const float* logits() const { return logits_.get(); }  // [draws, vocab]
    // Forward passes in this workspace mark their launches; null: they do not.
    void mark(LaunchMarks* marks) { marks_ = marks; }
    [[nodiscard]] LaunchMarks* marks() const { return marks_; }

   private:
    friend CudaTransformer;
    // What the layers of some rows work with: of all rows, or of half of them.
    struct Lane {
      Half half = Half::none;
      LaunchMarks* marks = nullptr;
      float* hidden = nullptr;
      void *normed = nullptr, *qkv = nullptr, *attended = nullptr, *mlp = nullptr,
           *activated = nullptr;
      const float* parts = nullptr;  // of a product, that the next norm adds to the residual stream
      const kernels::cuda::DecodeSchedule* schedule = nullptr;
      void* plan = nullptr;
    };
    struct DecodePlan {
      kernels::cuda::DecodeSchedule schedule{};
      DeviceBuffer<unsigned char> workspace;
    };
    [[nodiscard]] DecodePlan plan_for(const CudaTransformer&, int rows,
                                      kernels::cuda::DecodeShare) const;
    [[nodiscard]] Lane lane(const Transformer&, Half, int first_row, const DecodePlan&) const;

    int rows_;
    int draws_;
    LaunchMarks* marks_ = nullptr;
    DeviceBuffer<float> hidden_, last_;  // the residual stream, and of it the rows with logits
    DeviceTensor normed_, qkv_, attended_, mlp_, activated_;
    DeviceBuffer<float> logits_;
    DecodePlan plan_;
    std::array<DecodePlan, 2> half_plans_;
    Stream second_half_;
    Event forked_{cudaEventDisableTiming}, joined_{cudaEventDisableTiming};
  };

  // Writes the rows' K and V into the pool and the logits of the draws into the workspace. Nothing
  // is allocated, nothing waits: it may be captured in a graph.
  void forward(const DeviceRows&, const kernels::cuda::StepBegin&, const kernels::KvPool&,
               Workspace&, cudaStream_t);

  // The same for decodes only, all drawn, with the rows in two halves on branches of their own: the
  // second is half a layer behind the first, so that one half's linear layers run beside the
  // other's attention. REQUIRES: has_halves(rows).
  void forward_halves(const DeviceRows&, const kernels::cuda::StepBegin&, const kernels::KvPool&,
                      Workspace&, cudaStream_t);
  // Whether steps of so many rows can run in halves: every product of half of them has a thin body,
  // or the mode is deterministic.
  [[nodiscard]] bool has_halves(int rows) const;
  // Whether a step of so many rows that read `positions` in all is faster in halves. By what tuning
  // measured, and by rows and positions alone.
  [[nodiscard]] bool halves_pay(int rows, std::int64_t positions) const;

  // Measures the linear layers' algorithms for steps of `rows` rows, as many of them with logits as
  // the workspace has room for.
  void tune(int rows, Workspace&, cudaStream_t);

 private:
  void probe();
  struct Norm {
    DeviceTensor weight, bias;
  };
  struct Layer {
    Norm attention_norm, mlp_norm;
    DeviceTensor q_norm, k_norm;
    OwnedLinear qkv, o;
    OwnedLinear up;  // gate and up side by side where gated
    OwnedLinear down;
  };

  // Outputs of `Layer::up`.

  // `parts` are added to x first.
  void norm(const Norm&, int rows, float* x, const float* parts, void* y, cudaStream_t,
            kernels::cuda::Dependent = kernels::cuda::Dependent::yes);
  using Lane = Workspace::Lane;
  [[nodiscard]] kernels::KvLayout kv_layout() const;  // without slots
  [[nodiscard]] void* at(void* p, std::int64_t element) const {
    return static_cast<unsigned char*>(p) +
           element * static_cast<std::int64_t>(kernels::size_of(dtype_));
  }
  void embed(const DeviceRows&, const kernels::cuda::StepBegin&, const Lane&, cudaStream_t);
  void plan_attention(const DeviceRows&, const Lane&, cudaStream_t);
  [[nodiscard]] kernels::cuda::RotateWriteArgs rotation(const Layer&, int layer,
                                                        const kernels::KvPool&, int rows,
                                                        const std::int64_t* slots,
                                                        const std::int32_t* position,
                                                        const Lane&) const;
  [[nodiscard]] kernels::cuda::ThinQkvArgs whole_qkv(const Linear&,
                                                     const kernels::cuda::RotateWriteArgs&,
                                                     const Lane&) const;
  template <class Map>
  void attention(const DeviceRows&, const Map&, const kernels::KvPool&, int layer, const Lane&,
                 cudaStream_t);
  void before_attention(const DeviceRows&, const kernels::KvPool&, int layer, Lane&, cudaStream_t);
  void attention(const DeviceRows&, const kernels::KvPool&, int layer, const Lane&, cudaStream_t);
  double tune_qkv(const std::vector<const Linear*>& layers, int rows, const LinearRunner::After&,
                  const Lane&, cudaStream_t);
  void activation(int rows, const Lane&, cudaStream_t);
  void after_attention(const Layer&, int rows, Lane&, cudaStream_t);
  void logits(int rows, Workspace&, cudaStream_t);

  Transformer shape_;
  kernels::DType dtype_;
  LinearRunner linear_;
  DeviceTensor token_embedding_, position_embedding_;
  DeviceBuffer<float> rope_cos_, rope_sin_;  // [max_positions, head_dim / 2]
  std::vector<Layer> layers_;
  Norm final_norm_;
  OwnedLinear lm_head_;
  std::map<int, double> chain_;  // by rows: seconds that a layer's products take, as measured
};

}  // namespace kvstow
