#include "core/exec/cuda/cuda_transformer.h"

#include <algorithm>
#include <cmath>

#include "core/check.h"
#include "core/exec/cuda/step_kernels.h"
#include "core/exec/cuda/weight_upload.h"
#include "core/exec/model/rope.h"
#include "kernels/cuda/attention_f32.h"
#include "kernels/cuda/cache_ops.h"
#include "kernels/cuda/cuda_check.h"
#include "kernels/cuda/layers.h"
#include "kernels/cuda/prefill_attention.h"
#include "kernels/cuda/thin_qkv.h"

namespace kvstow {

using kernels::DType;
using kernels::cuda::Dependent;

CudaTransformer::CudaTransformer(const Transformer& shape, DType dtype, const WeightSource& source,
                                 LinearMode mode)
    : shape_(shape), dtype_(dtype), linear_((require_cuda_device(), dtype), mode) {
  WeightUpload load(shape_, dtype, source);
  token_embedding_ = load.read({Weight::token_embedding});
  position_embedding_ = load.read({Weight::position_embedding});
  for (int i = 0; i < shape.layers; ++i) {
    Layer& layer = layers_.emplace_back();
    layer.attention_norm = {load.read({Weight::attention_norm}, i),
                            load.read({Weight::attention_norm_bias}, i)};
    layer.mlp_norm = {load.read({Weight::mlp_norm}, i), load.read({Weight::mlp_norm_bias}, i)};
    layer.q_norm = load.read({Weight::q_norm}, i);
    layer.k_norm = load.read({Weight::k_norm}, i);
    layer.qkv = load.fuse(shape.hidden, {Weight::q, Weight::k, Weight::v},
                          {Weight::q_bias, Weight::k_bias, Weight::v_bias}, dtype, i);
    layer.o = load.fuse(shape.q_width(), {Weight::o}, {Weight::o_bias}, DType::f32, i);
    layer.up = load.fuse(shape.hidden, {Weight::gate, Weight::up}, {Weight::up_bias}, dtype, i);
    layer.down = load.fuse(shape.ffn, {Weight::down}, {Weight::down_bias}, DType::f32, i);
  }
  final_norm_ = {load.read({Weight::final_norm}), load.read({Weight::final_norm_bias})};
  if (shape.tied_embeddings) {
    lm_head_.in = shape.hidden;
    lm_head_.out = shape.vocab;
    lm_head_.weight = token_embedding_.get();
  } else {
    lm_head_ = load.fuse(shape.hidden, {Weight::lm_head}, {}, DType::f32);
  }
  if (!shape.learned_positions) {
    const RopeTable table = rope_table(shape);
    rope_cos_ = {table.cos.size(), "the RoPE table"};
    rope_sin_ = {table.sin.size(), "the RoPE table"};
    const std::size_t bytes = table.cos.size() * sizeof(float);
    KVSTOW_CUDA(cudaMemcpy(rope_cos_.get(), table.cos.data(), bytes, cudaMemcpyHostToDevice));
    KVSTOW_CUDA(cudaMemcpy(rope_sin_.get(), table.sin.data(), bytes, cudaMemcpyHostToDevice));
  }
  KVSTOW_CUDA(cudaDeviceSynchronize());
  if (mode == LinearMode::deterministic) probe();
}

// The layers have one shape.
void CudaTransformer::probe() {
  const Stream stream;
  const Layer& layer = layers_.front();
  const std::int64_t qkv = shape_.qkv_width();
  linear_.probe(layer.qkv, LinearUse::store, shape_.hidden, qkv, stream);
  linear_.probe(layer.o, LinearUse::add, shape_.q_width(), shape_.hidden, stream);
  linear_.probe(layer.up, shape_.gated ? LinearUse::store : LinearUse::store_relu, shape_.hidden,
                shape_.up_width(), stream);
  linear_.probe(layer.down, LinearUse::add, shape_.ffn, shape_.hidden, stream);
  linear_.probe(lm_head_, LinearUse::logits, shape_.hidden, shape_.vocab, stream);
}

CudaTransformer::Workspace::Workspace(const CudaTransformer& model, int rows, int draws)
    : rows_(rows), draws_(draws) {
  const Transformer& shape = model.shape_;
  const auto residual = [&](int height) {
    return DeviceBuffer<float>(
        static_cast<std::size_t>(height) * static_cast<std::size_t>(shape.hidden),
        "a step's activations");
  };
  const auto buffer = [&](int width) {
    return DeviceTensor(std::int64_t{std::max(rows, draws)} * width, model.dtype_,
                        "a step's activations");
  };
  hidden_ = residual(rows);
  last_ = residual(draws);
  normed_ = buffer(shape.hidden);
  qkv_ = buffer(shape.qkv_width());
  attended_ = buffer(shape.q_width());
  mlp_ = buffer(shape.up_width());
  if (shape.gated) activated_ = buffer(shape.ffn);
  logits_ = {static_cast<std::size_t>(draws) * static_cast<std::size_t>(shape.vocab),
             "a step's logits"};
  using kernels::cuda::DecodeShare;
  plan_ = plan_for(model, rows, DecodeShare::all);
  if (rows == draws && kernels::cuda::decode_can_share(model.kv_layout())) {
    half_plans_[0] = plan_for(model, rows, DecodeShare::first);
    half_plans_[1] = plan_for(model, rows, DecodeShare::second);
  }
  KVSTOW_CUDA(cudaDeviceSynchronize());
}

CudaTransformer::Workspace::DecodePlan CudaTransformer::Workspace::plan_for(
    const CudaTransformer& model, int rows, kernels::cuda::DecodeShare share) const {
  const Transformer& shape = model.shape_;
  DecodePlan plan;
  plan.schedule =
      kernels::cuda::decode_schedule(rows, shape.max_positions, shape.heads, model.kv_layout(),
                                     kernels::cuda::device_blocks(), share);
  plan.workspace = {static_cast<std::size_t>(plan.schedule.workspace_bytes),
                    "decode attention's workspace"};
  return plan;
}

CudaTransformer::Workspace::Lane CudaTransformer::Workspace::lane(const Transformer& shape,
                                                                  Half half, int first_row,
                                                                  const DecodePlan& plan) const {
  const std::int64_t first = first_row;
  return {.half = half,
          .marks = marks_,
          .hidden = hidden_.get() + first * shape.hidden,
          .normed = normed_.at(first * shape.hidden),
          .qkv = qkv_.at(first * shape.qkv_width()),
          .attended = attended_.at(first * shape.q_width()),
          .mlp = mlp_.at(first * shape.up_width()),
          .activated = shape.gated ? activated_.at(first * shape.ffn) : nullptr,
          .schedule = &plan.schedule,
          .plan = plan.workspace.get()};
}

kernels::KvLayout CudaTransformer::kv_layout() const {
  return {shape_.layers, shape_.kv_heads, shape_.head_dim, 0, dtype_};
}

void CudaTransformer::norm(const Norm& n, int rows, float* x, const float* parts, void* y,
                           cudaStream_t stream, Dependent dependent) {
  const kernels::NormArgs args{
      .kind = shape_.layer_norm ? kernels::NormKind::layer_norm : kernels::NormKind::rms_norm,
      .rows = rows,
      .segments = 1,
      .width = shape_.hidden,
      .x = x,
      .x_stride = shape_.hidden,
      .weight = n.weight.get(),
      .bias = n.bias.get(),
      .y = y,
      .y_stride = shape_.hidden,
      .epsilon = shape_.norm_epsilon,
      .dtype = dtype_};
  parts != nullptr ? kernels::cuda::join_norm(args, parts, x, stream, dependent)
                   : kernels::cuda::norm(args, stream, dependent);
}

template <class Map>
void CudaTransformer::attention(const DeviceRows& rows, const Map& map, const kernels::KvPool& pool,
                                int layer, const Lane& lane, cudaStream_t stream) {
  const int q_width = shape_.q_width();
  const std::int64_t stride = shape_.qkv_width();
  const float scale = 1 / std::sqrt(static_cast<float>(shape_.head_dim));
  const bool plain = dtype_ == DType::f32;
  if (rows.prompts > 0) {
    const kernels::PrefillAttentionArgs<Map> prompts{.pool = pool,
                                                     .layer = layer,
                                                     .map = map,
                                                     .sequences = rows.prompts,
                                                     .heads = shape_.heads,
                                                     .q = lane.qkv,
                                                     .q_stride = stride,
                                                     .out = lane.attended,
                                                     .out_stride = q_width,
                                                     .row_begin = rows.prefill_begin,
                                                     .map_row = rows.prefill_map,
                                                     .first = rows.prefill_first,
                                                     .scale = scale,
                                                     .dtype = dtype_};
    plain ? kernels::cuda::attention_f32(prompts, rows.prompt_rows, stream)
          : kernels::cuda::prefill_attention(prompts, rows.prompt_rows, stream, Dependent::yes);
  }
  if (rows.decodes > 0) {
    const std::int64_t skip = rows.prompt_rows;
    const kernels::DecodeAttentionArgs<Map> decodes{.pool = pool,
                                                    .layer = layer,
                                                    .map = map,
                                                    .rows = rows.decodes,
                                                    .heads = shape_.heads,
                                                    .q = at(lane.qkv, skip * stride),
                                                    .q_stride = stride,
                                                    .out = at(lane.attended, skip * q_width),
                                                    .out_stride = q_width,
                                                    .map_row = rows.decode_map,
                                                    .length = rows.decode_length,
                                                    .stable_length = rows.decode_stable,
                                                    .scale = scale,
                                                    .dtype = dtype_};
    plain ? kernels::cuda::attention_f32(decodes, stream)
          : kernels::cuda::decode_attention(decodes, *lane.schedule, lane.plan, stream,
                                            Dependent::yes);
  }
}

kernels::cuda::RotateWriteArgs CudaTransformer::rotation(const Layer& own, int layer,
                                                         const kernels::KvPool& pool, int rows,
                                                         const std::int64_t* slots,
                                                         const std::int32_t* position,
                                                         const Lane& lane) const {
  const std::int64_t k = shape_.q_width();
  const std::int64_t stride = shape_.qkv_width();
  return {.kv = {.pool = pool,
                 .layer = layer,
                 .rows = rows,
                 .k = at(lane.qkv, k),
                 .v = at(lane.qkv, k + shape_.kv_width()),
                 .k_stride = stride,
                 .v_stride = stride,
                 .slots = slots,
                 .dtype = dtype_},
          .heads = shape_.heads,
          .q = lane.qkv,
          .q_stride = stride,
          .q_weight = own.q_norm.get(),
          .k_weight = own.k_norm.get(),
          .epsilon = shape_.norm_epsilon,
          .position = position,
          .cos = rope_cos_.get(),
          .sin = rope_sin_.get()};
}

kernels::cuda::ThinQkvArgs CudaTransformer::whole_qkv(const Linear& qkv,
                                                      const kernels::cuda::RotateWriteArgs& to,
                                                      const Lane& lane) const {
  return {.in = shape_.hidden,
          .x = lane.normed,
          .x_stride = shape_.hidden,
          .weight = qkv.weight,
          .to = to};
}

// The first of a layer's two norms, the projections, and K and V into their slots.
void CudaTransformer::before_attention(const DeviceRows& rows, const kernels::KvPool& pool,
                                       int layer, Lane& lane, cudaStream_t stream) {
  const Layer& own = layers_[static_cast<std::size_t>(layer)];
  const std::int64_t stride = shape_.qkv_width();
  enter(lane.marks, LaunchClass::norm, stream);
  // Decode attention reads the plan before it waits: what launches it may start early, the first
  // norm not.
  norm(own.attention_norm, rows.rows, lane.hidden, lane.parts, lane.normed, stream,
       layer == 0 ? Dependent::no : Dependent::yes);
  const auto to = rotation(own, layer, pool, rows.rows, rows.slot, rows.position, lane);
  const auto whole = whole_qkv(own.qkv, to, lane);
  enter(lane.marks, LaunchClass::linear, stream);
  // It would take the room of the other half's attention.
  if (lane.half == Half::none && has_thin_qkv(whole) &&
      linear_.is_thin(own.qkv, LinearUse::store, rows.rows, shape_.hidden, stride)) {
    kernels::cuda::thin_qkv(whole, stream, Dependent::yes);
    // Nothing in it: graphs of every batch size have the same run of classes.
    enter(lane.marks, LaunchClass::rotate, stream);
  } else {
    linear_.run(own.qkv, LinearUse::store, rows.rows, lane.normed, shape_.hidden, lane.qkv, stride,
                stream, lane.half);
    enter(lane.marks, LaunchClass::rotate, stream);
    rotate_and_write(to, stream, Dependent::yes);
  }
}

void CudaTransformer::attention(const DeviceRows& rows, const kernels::KvPool& pool, int layer,
                                const Lane& lane, cudaStream_t stream) {
  enter(lane.marks, LaunchClass::attention, stream);
  if (rows.block_tokens == 0) {
    attention(rows, kernels::AffineMap{rows.first}, pool, layer, lane, stream);
  } else {
    attention(rows, kernels::BlockTableMap{rows.table, rows.table_stride, rows.block_tokens}, pool,
              layer, lane, stream);
  }
}

// cuBLASLt does not let the next launch start early; one that may is 0.4 us later than one that may
// not.
void CudaTransformer::activation(int rows, const Lane& lane, cudaStream_t stream) {
  kernels::cuda::activation({.kind = kernels::ActivationKind::silu_mul,
                             .rows = rows,
                             .width = shape_.ffn,
                             .x = lane.mlp,
                             .x_stride = shape_.up_width(),
                             .y = lane.activated,
                             .y_stride = shape_.ffn,
                             .dtype = dtype_},
                            stream);
}

// The rest of a layer. Of two halves, O waits until attention has ended: blocks that were there
// before it would take the places where the other half's products can run.
void CudaTransformer::after_attention(const Layer& layer, int rows, Lane& lane,
                                      cudaStream_t stream) {
  const Half half = lane.half;
  enter(lane.marks, LaunchClass::linear, stream);
  lane.parts =
      linear_.run(layer.o, LinearUse::add_join, rows, lane.attended, shape_.q_width(), lane.hidden,
                  shape_.hidden, stream, half, half == Half::none ? Dependent::yes : Dependent::no);
  enter(lane.marks, LaunchClass::norm, stream);
  norm(layer.mlp_norm, rows, lane.hidden, lane.parts, lane.normed, stream);
  const void* activated = lane.mlp;
  enter(lane.marks, LaunchClass::linear, stream);
  if (shape_.gated &&
      linear_.is_thin(layer.up, LinearUse::silu_mul, rows, shape_.hidden, shape_.ffn, half)) {
    linear_.run(layer.up, LinearUse::silu_mul, rows, lane.normed, shape_.hidden, lane.activated,
                shape_.ffn, stream, half);
    activated = lane.activated;
    // Nothing in it: graphs of every batch size have the same run of classes.
    enter(lane.marks, LaunchClass::activation, stream);
    enter(lane.marks, LaunchClass::linear, stream);
  } else if (shape_.gated) {
    linear_.run(layer.up, LinearUse::store, rows, lane.normed, shape_.hidden, lane.mlp,
                shape_.up_width(), stream, half);
    enter(lane.marks, LaunchClass::activation, stream);
    activation(rows, lane, stream);
    activated = lane.activated;
    enter(lane.marks, LaunchClass::linear, stream);
  } else {
    linear_.run(layer.up, LinearUse::store_relu, rows, lane.normed, shape_.hidden, lane.mlp,
                shape_.ffn, stream, half);
  }
  lane.parts = linear_.run(layer.down, LinearUse::add_join, rows, activated, shape_.ffn,
                           lane.hidden, shape_.hidden, stream, half);
}

void CudaTransformer::embed(const DeviceRows& rows, const kernels::cuda::StepBegin& begin,
                            const Lane& lane, cudaStream_t stream) {
  enter(lane.marks, LaunchClass::embedding, stream);
  const std::int64_t unused_positions = std::int64_t{kPositionOffset} * shape_.hidden;
  kernels::cuda::embedding(
      {.rows = rows.rows,
       .width = shape_.hidden,
       .token = rows.token,
       .table = token_embedding_.get(),
       .position = rows.position,
       .position_table =
           shape_.learned_positions ? position_embedding_.at(unused_positions) : nullptr,
       .y = lane.hidden,
       .y_stride = shape_.hidden,
       .dtype = dtype_},
      begin, stream);
}

void CudaTransformer::plan_attention(const DeviceRows& rows, const Lane& lane,
                                     cudaStream_t stream) {
  if (rows.decodes == 0) return;
  enter(lane.marks, LaunchClass::attention, stream);
  kernels::cuda::plan_decode_attention(*lane.schedule, rows.decode_map, rows.decode_length,
                                       rows.decodes, lane.plan, stream);
}

// Of the rows that the final norm has left side by side.
void CudaTransformer::logits(int rows, Workspace& work, cudaStream_t stream) {
  enter(work.marks_, LaunchClass::linear, stream);
  linear_.run(lm_head_, LinearUse::logits, rows, work.normed_.get(), shape_.hidden,
              work.logits_.get(), shape_.vocab, stream);
}

void CudaTransformer::forward(const DeviceRows& rows, const kernels::cuda::StepBegin& begin,
                              const kernels::KvPool& pool, Workspace& work, cudaStream_t stream) {
  KVSTOW_CHECK(rows.rows <= work.rows_ && rows.draws <= work.draws_,
               "a step with more rows than its workspace");
  Lane lane = work.lane(shape_, Half::none, 0, work.plan_);
  embed(rows, begin, lane, stream);
  plan_attention(rows, lane, stream);
  int wanted = rows.rows;
  for (int i = 0; i < shape_.layers; ++i) {
    before_attention(rows, pool, i, lane, stream);
    attention(rows, pool, i, lane, stream);
    // After the last layer's attention nobody looks at other rows than those with logits.
    if (i + 1 == shape_.layers && rows.logits != nullptr) {
      wanted = rows.draws;
      if (wanted == 0) return;
      enter(lane.marks, LaunchClass::embedding, stream);
      gather_rows(lane.hidden, rows.logits, wanted, shape_.hidden, DType::f32, work.last_.get(),
                  stream);
      gather_rows(lane.attended, rows.logits, wanted, shape_.q_width(), dtype_, lane.qkv, stream);
      lane.hidden = work.last_.get();
      lane.attended = lane.qkv;
    }
    after_attention(layers_[static_cast<std::size_t>(i)], wanted, lane, stream);
  }
  enter(lane.marks, LaunchClass::norm, stream);
  norm(final_norm_, wanted, lane.hidden, lane.parts, lane.normed, stream);
  logits(wanted, work, stream);
}

}  // namespace kvstow
