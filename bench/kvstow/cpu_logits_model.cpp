#include <limits>

#include "bench/kvstow/logits_model.h"
#include "core/exec/cpu/cpu_transformer.h"

namespace kvstow {
namespace {

class CpuLogitsModel final : public LogitsModel {
 public:
  CpuLogitsModel(const Transformer& shape, const WeightSource& weights, const LogitsRoom& room)
      : model_(shape, weights),
        pool_{nullptr,
              {shape.layers, shape.kv_heads, shape.head_dim, room.slots, kernels::DType::f32}},
        data_(static_cast<std::size_t>(pool_.layout.elements()),
              std::numeric_limits<float>::quiet_NaN()) {
    pool_.data = data_.data();
  }

  std::span<const float> forward(const ForwardRows& rows) override {
    return model_.forward(rows, pool_, work_, threads_);
  }

 private:
  CpuTransformer model_;
  kernels::KvPool pool_;
  std::vector<float> data_;
  CpuTransformer::Workspace work_;
  kernels::cpu::ThreadPool threads_;
};

}  // namespace

std::unique_ptr<LogitsModel> cpu_logits_model(const Transformer& shape, const WeightSource& weights,
                                              const LogitsRoom& room) {
  return std::make_unique<CpuLogitsModel>(shape, weights, room);
}

}  // namespace kvstow
