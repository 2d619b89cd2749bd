#include <algorithm>

#include "bench/kvstow/logits_model.h"
#include "core/exec/cuda/cuda_transformer.h"
#include "kernels/cuda/cuda_check.h"

namespace kvstow {
namespace {

class CudaLogitsModel final : public LogitsModel {
 public:
  CudaLogitsModel(const Transformer& shape, const WeightSource& weights, kernels::DType dtype,
                  const LogitsRoom& room)
      : model_(shape, dtype, weights, LinearMode::fastest),
        work_(model_, room.rows, room.rows),
        upload_(std::max(room.rows, room.sequences), room.table_stride),
        pool_{nullptr, {shape.layers, shape.kv_heads, shape.head_dim, room.slots, dtype}},
        data_(static_cast<std::size_t>(pool_.layout.elements()) * kernels::size_of(dtype),
              "the pool") {
    pool_.data = data_.get();
    data_.fill_bytes(0xff);  // NaN in every dtype
  }

  std::span<const float> forward(const ForwardRows& rows) override {
    DrawRows draws{.logits = rows.logits, .sampling = {}};
    draws.sampling.resize(rows.logits.size());
    const DeviceRows there = upload_.pack(rows, draws, 0);
    upload_.send(stream_);
    model_.forward(there, {}, pool_, work_, stream_);
    logits_.resize(rows.logits.size() * static_cast<std::size_t>(model_.shape().vocab));
    KVSTOW_CUDA(cudaStreamSynchronize(stream_));
    KVSTOW_CUDA(cudaMemcpy(logits_.data(), work_.logits(), logits_.size() * sizeof(float),
                           cudaMemcpyDeviceToHost));
    return logits_;
  }

 private:
  CudaTransformer model_;
  CudaTransformer::Workspace work_;
  RowsUpload upload_;
  kernels::KvPool pool_;
  DeviceBuffer<unsigned char> data_;
  Stream stream_;
  std::vector<float> logits_;
};

}  // namespace

std::unique_ptr<LogitsModel> cuda_logits_model(const Transformer& shape,
                                               const WeightSource& weights, kernels::DType dtype,
                                               const LogitsRoom& room) {
  return std::make_unique<CudaLogitsModel>(shape, weights, dtype, room);
}

}  // namespace kvstow
