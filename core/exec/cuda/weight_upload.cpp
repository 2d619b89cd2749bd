#include "core/exec/cuda/weight_upload.h"

#include "core/exec/cuda/step_kernels.h"
#include "kernels/cuda/cuda_check.h"

namespace kvstow {

using kernels::DType;

namespace {

TensorType stored_type(DType dtype) {
  switch (dtype) {
    case DType::f32:
      return TensorType::f32;
    case DType::f16:
      return TensorType::f16;
    case DType::bf16:
      return TensorType::bf16;
  }
  return TensorType::other;
}

}  // namespace

void WeightUpload::fill(const TensorSpec& spec, DType dtype, void* to) {
  if (const auto uniform = source_.uniform(spec)) {
    fill_uniform_weights(to, spec.elements(), dtype, uniform->key, uniform->mean, uniform->scale,
                         stream_);
    return;
  }
  const auto stored = source_.stored(spec, stored_type(dtype));
  if (!stored.empty()) {
    KVSTOW_CUDA(cudaMemcpy(to, stored.data(), stored.size(), cudaMemcpyHostToDevice));
    return;
  }
  const auto count = static_cast<std::size_t>(spec.elements());
  host_.resize(count);
  source_.read(spec, host_);
  if (device_.size() < count) device_ = {count, "a tensor's upload"};
  KVSTOW_CUDA(cudaMemcpyAsync(device_.get(), host_.data(), count * sizeof(float),
                              cudaMemcpyHostToDevice, stream_));
  convert_weights(device_.get(), spec.elements(), dtype, to, stream_);
  KVSTOW_CUDA(cudaStreamSynchronize(stream_));
}

DeviceTensor WeightUpload::read(std::initializer_list<Weight> weights, int layer, DType dtype) {
  std::int64_t elements = 0;
  for (const Weight weight : weights) {
    if (const auto spec = tensor_spec(shape_, weight, layer)) elements += spec->elements();
  }
  if (elements == 0) return {};
  DeviceTensor tensor(elements, dtype, "the model's weights");
  std::int64_t at = 0;
  for (const Weight weight : weights) {
    const auto spec = tensor_spec(shape_, weight, layer);
    if (!spec) continue;
    fill(*spec, dtype, tensor.at(at));
    at += spec->elements();
  }
  return tensor;
}

OwnedLinear WeightUpload::fuse(int in, std::initializer_list<Weight> weights,
                               std::initializer_list<Weight> biases, DType results, int layer) {
  OwnedLinear linear;
  linear.weights = read(weights, layer);
  linear.biases = read(biases, layer, results);
  linear.in = in;
  linear.out = static_cast<int>(linear.weights.elements() / in);
  linear.weight = linear.weights.get();
  linear.bias = linear.biases.get();
  return linear;
}

}  // namespace kvstow
