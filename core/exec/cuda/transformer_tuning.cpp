// Which algorithms a model's products take, measured with what follows them in a layer.
#include <algorithm>

#include "core/exec/cuda/cuda_transformer.h"
#include "kernels/cuda/cache_ops.h"

namespace kvstow {

using kernels::cuda::Dependent;

namespace {

// Of the layers that tuning runs in turn: enough that none is still in the cache when its turn
// comes again.
constexpr std::int64_t kTunedBytes = std::int64_t{256} << 20;

}  // namespace

// With the rotation behind it or in it, of rows that go to no slot. Returns seconds.
double CudaTransformer::tune_qkv(const std::vector<const Linear*>& layers, int rows,
                                 const LinearRunner::After& after, const Lane& lane,
                                 cudaStream_t stream) {
  DeviceBuffer<std::int64_t> slots(static_cast<std::size_t>(rows), "tuning");
  DeviceBuffer<std::int32_t> position(static_cast<std::size_t>(rows), "tuning");
  slots.fill_bytes(0xff);
  position.fill_bytes(0);
  const kernels::KvPool nowhere{nullptr, kv_layout()};
  const auto to = rotation(layers_.front(), 0, nowhere, rows, slots.get(), position.get(), lane);
  const LinearRunner::After rotate = [&](const float* parts, cudaStream_t on) {
    rotate_and_write(to, on, Dependent::yes);
    after(parts, on);
  };
  const int stride = shape_.qkv_width();
  const double best = linear_.tune(layers, LinearUse::store, rows, lane.normed, shape_.hidden,
                                   lane.qkv, stride, rotate, stream);
  const bool whole = has_thin_qkv(whole_qkv(*layers.front(), to, lane));
  const LinearRunner::Instead instead = [&](const Linear& qkv, cudaStream_t on) {
    kernels::cuda::thin_qkv(whole_qkv(qkv, to, lane), on, Dependent::yes);
  };
  return linear_.tune_thin(layers, LinearUse::store, rows, lane.normed, shape_.hidden, lane.qkv,
                           stride, whole ? after : rotate, best, stream,
                           whole ? instead : LinearRunner::Instead());
}

void CudaTransformer::tune(int rows, Workspace& work, cudaStream_t stream) {
  // Each product is followed by a norm, as two of a layer's four are: what it leaves to the next
  // launch (a sum of split parts) is counted, and what that hides is not.
  const LinearRunner::After after = [&](const float* parts, cudaStream_t on) {
    norm(final_norm_, rows, work.hidden_.get(), parts, work.normed_.get(), on);
  };
  const Lane lane = work.lane(shape_, Half::none, 0, work.plan_);
  const LinearRunner::After activate = [&](const float* parts, cudaStream_t on) {
    activation(rows, lane, on);
    after(parts, on);
  };
  const auto layers = [&](OwnedLinear Layer::*member) {
    std::vector<const Linear*> linears;
    std::int64_t bytes = 0;
    for (const Layer& layer : layers_) {
      if (bytes > kTunedBytes) break;
      linears.push_back(&(layer.*member));
      bytes +=
          (layer.*member).weights.elements() * static_cast<std::int64_t>(kernels::size_of(dtype_));
    }
    return linears;
  };
  double chain = 0;
  // The numbers are what the workspace happens to hold; all candidates meet the same ones.
  const auto tune = [&](OwnedLinear Layer::*member, LinearUse use, LinearUse thin_use,
                        const void* x, void* y, int width) {
    const auto linears = layers(member);
    const int in = linears.front()->in;
    double best = linear_.tune(linears, use, rows, x, in, y, width, after, stream);
    best = linear_.tune_thin(linears, thin_use, rows, x, in, y, width, after, best, stream);
    chain += best / static_cast<double>(linears.size());
  };
  const auto qkvs = layers(&Layer::qkv);
  chain += tune_qkv(qkvs, rows, after, lane, stream) / static_cast<double>(qkvs.size());
  tune(&Layer::o, LinearUse::add, LinearUse::add_join, work.attended_.get(), work.hidden_.get(),
       shape_.hidden);
  tune(&Layer::down, LinearUse::add, LinearUse::add_join,
       shape_.gated ? work.activated_.get() : work.mlp_.get(), work.hidden_.get(), shape_.hidden);
  const auto ups = layers(&Layer::up);
  double best = linear_.tune(ups, shape_.gated ? LinearUse::store : LinearUse::store_relu, rows,
                             work.normed_.get(), shape_.hidden, work.mlp_.get(), shape_.up_width(),
                             shape_.gated ? activate : after, stream);
  if (shape_.gated) {
    best = linear_.tune_thin(ups, LinearUse::silu_mul, rows, work.normed_.get(), shape_.hidden,
                             work.activated_.get(), shape_.ffn, after, best, stream);
  }
  chain += best / static_cast<double>(ups.size());
  if (chain > 0) chain_[rows] = chain;
  linear_.tune({&lm_head_}, LinearUse::logits, std::min(rows, work.draws_), work.normed_.get(),
               shape_.hidden, work.logits_.get(), shape_.vocab, after, stream);
}

}  // namespace kvstow
