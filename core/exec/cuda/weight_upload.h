// From a source of weights to tensors on the device.
#pragma once

#include <initializer_list>
#include <vector>

#include "core/exec/cuda/device_tensor.h"
#include "core/exec/cuda/linear.h"
#include "core/exec/cuda/memory.h"
#include "core/exec/model/transformer.h"
#include "core/exec/model/weights.h"

namespace kvstow {

// A linear layer and what it points to.
struct OwnedLinear : Linear {
  DeviceTensor weights, biases;
};

// Tensors are drawn on the device where the source is a random one, copied as they are where a file
// holds them in our dtype, and otherwise go through f32 on the host. All are there when the device
// has nothing left to do. The shape and the source must outlive this. Throws InputError where
// memory is short.
class WeightUpload {
 public:
  WeightUpload(const Transformer& shape, kernels::DType dtype, const WeightSource& source)
      : shape_(shape), dtype_(dtype), source_(source) {}

  // Several tensors one after the other; empty where the model has none of them.
  [[nodiscard]] DeviceTensor read(std::initializer_list<Weight> weights, int layer = 0) {
    return read(weights, layer, dtype_);
  }

  // Several matrices of one input side by side: one product serves all of them. The biases are of
  // the dtype of its results.
  [[nodiscard]] OwnedLinear fuse(int in, std::initializer_list<Weight> weights,
                                 std::initializer_list<Weight> biases, kernels::DType results,
                                 int layer = 0);

 private:
  [[nodiscard]] DeviceTensor read(std::initializer_list<Weight>, int layer, kernels::DType);
  void fill(const TensorSpec&, kernels::DType, void* to);

  const Transformer& shape_;
  kernels::DType dtype_;
  const WeightSource& source_;
  Stream stream_;
  std::vector<float> host_;
  DeviceBuffer<float> device_{0, "a tensor's upload"};
};

}  // namespace kvstow
