#include "core/exec/cpu/cpu_transformer.h"

#include <algorithm>
#include <cmath>

#include "core/check.h"

namespace kvstow {

using kernels::DType;
using kernels::cpu::ThreadPool;

namespace {

float* fit(std::vector<float>& buffer, std::int64_t rows, std::int64_t width) {
  const auto size = static_cast<std::size_t>(rows * width);
  if (buffer.size() < size) buffer.resize(size);
  return buffer.data();
}

}  // namespace

struct CpuTransformer::Loader {
  const Transformer& shape;
  const WeightSource& source;

  // Empty where the model has no such part.
  [[nodiscard]] std::vector<float> read(Weight weight, int layer = 0) const {
    const auto spec = tensor_spec(shape, weight, layer);
    if (!spec) return {};
    std::vector<float> values(static_cast<std::size_t>(spec->elements()));
    source.read(*spec, values);
    return values;
  }

  // Several matrices of one input side by side: one pass over x serves all of them.
  [[nodiscard]] Linear fuse(int in, std::initializer_list<Weight> weights,
                            std::initializer_list<Weight> biases, int layer = 0) const {
    std::vector<float> rows;
    Linear linear;
    for (const Weight weight : weights) {
      const std::vector<float> part = read(weight, layer);
      rows.insert(rows.end(), part.begin(), part.end());
    }
    for (const Weight bias : biases) {
      const std::vector<float> part = read(bias, layer);
      linear.bias.insert(linear.bias.end(), part.begin(), part.end());
    }
    linear.in = in;
    linear.out = static_cast<int>(rows.size() / static_cast<std::size_t>(in));
    linear.weight = FloatArray(kernels::cpu::packed_elements(linear.out, in));
    kernels::cpu::pack_weight(rows.data(), linear.out, in, linear.weight.data());
    return linear;
  }
};

CpuTransformer::CpuTransformer(const Transformer& shape, const WeightSource& source)
    : shape_(shape) {
  const Loader load{shape_, source};
  token_embedding_ = load.read(Weight::token_embedding);
  position_embedding_ = load.read(Weight::position_embedding);
  for (int i = 0; i < shape.layers; ++i) {
    Layer& layer = layers_.emplace_back();
    layer.attention_norm = {load.read(Weight::attention_norm, i),
                            load.read(Weight::attention_norm_bias, i)};
    layer.mlp_norm = {load.read(Weight::mlp_norm, i), load.read(Weight::mlp_norm_bias, i)};
    layer.q_norm = load.read(Weight::q_norm, i);
    layer.k_norm = load.read(Weight::k_norm, i);
    layer.qkv = load.fuse(shape.hidden, {Weight::q, Weight::k, Weight::v},
                          {Weight::q_bias, Weight::k_bias, Weight::v_bias}, i);
    layer.o = load.fuse(shape.q_width(), {Weight::o}, {Weight::o_bias}, i);
    layer.up = load.fuse(shape.hidden, {Weight::gate, Weight::up}, {Weight::up_bias}, i);
    layer.down = load.fuse(shape.ffn, {Weight::down}, {Weight::down_bias}, i);
  }
  final_norm_ = {load.read(Weight::final_norm), load.read(Weight::final_norm_bias)};
  lm_head_ = load.fuse(shape.hidden,
                       {shape.tied_embeddings ? Weight::token_embedding : Weight::lm_head}, {});

  if (!shape.learned_positions) rope_ = rope_table(shape);
}

std::size_t CpuTransformer::weight_bytes() const {
  std::size_t floats = lm_head_.weight.size();
  for (const Layer& layer : layers_) {
    for (const Linear* linear : {&layer.qkv, &layer.o, &layer.up, &layer.down}) {
      floats += linear->weight.size();
    }
  }
  return floats * sizeof(float);
}

void CpuTransformer::linear(const Linear& l, int rows, const float* x, std::int64_t x_stride,
                            float* y, const float* residual, ThreadPool& threads) const {
  kernels::cpu::linear({.rows = rows,
                        .in = l.in,
                        .out = l.out,
                        .x = x,
                        .x_stride = x_stride,
                        .weight = l.weight.data(),
                        .bias = l.bias.empty() ? nullptr : l.bias.data(),
                        .residual = residual,
                        .y = y,
                        .y_stride = l.out,
                        .dtype = DType::f32},
                       threads);
}

void CpuTransformer::norm(const Norm& n, int rows, const float* x, float* y,
                          ThreadPool& threads) const {
  kernels::cpu::norm(
      {.kind = shape_.layer_norm ? kernels::NormKind::layer_norm : kernels::NormKind::rms_norm,
       .rows = rows,
       .segments = 1,
       .width = shape_.hidden,
       .x = x,
       .x_stride = shape_.hidden,
       .weight = n.weight.data(),
       .bias = n.bias.data(),
       .y = y,
       .y_stride = shape_.hidden,
       .epsilon = shape_.norm_epsilon,
       .dtype = DType::f32},
      threads);
}

template <class Map>
void CpuTransformer::attention(const ForwardRows& rows, const Map& map, const kernels::KvPool& pool,
                               int layer, Workspace& work, ThreadPool& threads) const {
  const int count = rows.rows();
  const int q_width = shape_.q_width();
  const std::int64_t stride = shape_.qkv_width();
  float* q = work.qkv.data();
  float* k = q + q_width;
  float* v = k + shape_.kv_width();

  const Layer& own = layers_[static_cast<std::size_t>(layer)];
  const auto prepare = [&](float* x, int heads, const std::vector<float>& weight) {
    if (shape_.qk_norm) {
      kernels::cpu::norm({.kind = kernels::NormKind::rms_norm,
                          .rows = count,
                          .segments = heads,
                          .width = shape_.head_dim,
                          .x = x,
                          .x_stride = stride,
                          .weight = weight.data(),
                          .bias = nullptr,
                          .y = x,
                          .y_stride = stride,
                          .epsilon = shape_.norm_epsilon,
                          .dtype = DType::f32},
                         threads);
    }
    if (!shape_.learned_positions) {
      kernels::cpu::rope({.rows = count,
                          .heads = heads,
                          .head_dim = shape_.head_dim,
                          .x = x,
                          .x_stride = stride,
                          .position = rows.position.data(),
                          .cos = rope_.cos.data(),
                          .sin = rope_.sin.data(),
                          .dtype = DType::f32},
                         threads);
    }
  };
  prepare(q, shape_.heads, own.q_norm);
  prepare(k, shape_.kv_heads, own.k_norm);
  kernels::cpu::write_kv({.pool = pool,
                          .layer = layer,
                          .rows = count,
                          .k = k,
                          .v = v,
                          .k_stride = stride,
                          .v_stride = stride,
                          .slots = rows.slot.data(),
                          .dtype = DType::f32},
                         threads);

  const float scale = 1 / std::sqrt(static_cast<float>(shape_.head_dim));
  float* out = fit(work.attended, count, q_width);
  kernels::cpu::prefill_attention(
      kernels::PrefillAttentionArgs<Map>{.pool = pool,
                                         .layer = layer,
                                         .map = map,
                                         .sequences = rows.prompts(),
                                         .heads = shape_.heads,
                                         .q = q,
                                         .q_stride = stride,
                                         .out = out,
                                         .out_stride = q_width,
                                         .row_begin = rows.prefill_begin.data(),
                                         .map_row = rows.prefill_map.data(),
                                         .first = rows.prefill_first.data(),
                                         .scale = scale,
                                         .dtype = DType::f32},
      threads);
  const std::int64_t prompts = rows.prompt_rows();
  kernels::cpu::decode_attention(
      kernels::DecodeAttentionArgs<Map>{.pool = pool,
                                        .layer = layer,
                                        .map = map,
                                        .rows = rows.decodes(),
                                        .heads = shape_.heads,
                                        .q = q + prompts * stride,
                                        .q_stride = stride,
                                        .out = out + prompts * q_width,
                                        .out_stride = q_width,
                                        .map_row = rows.decode_map.data(),
                                        .length = rows.decode_length.data(),
                                        .stable_length = nullptr,
                                        .scale = scale,
                                        .dtype = DType::f32},
      threads);
}

std::span<const float> CpuTransformer::forward(const ForwardRows& rows, const kernels::KvPool& pool,
                                               Workspace& work, ThreadPool& threads) const {
  const int count = rows.rows();
  const int hidden = shape_.hidden;
  float* x = fit(work.hidden, count, hidden);
  float* normed = fit(work.normed, count, hidden);
  float* qkv = fit(work.qkv, count, shape_.qkv_width());
  const int up_width = shape_.up_width();
  float* mlp = fit(work.mlp, count, up_width);

  kernels::cpu::embedding(
      {.rows = count,
       .width = hidden,
       .token = rows.token.data(),
       .table = token_embedding_.data(),
       .position = rows.position.data(),
       .position_table = shape_.learned_positions
                             ? position_embedding_.data() + std::int64_t{kPositionOffset} * hidden
                             : nullptr,
       .y = x,
       .y_stride = hidden,
       .dtype = DType::f32},
      threads);
  for (int i = 0; i < shape_.layers; ++i) {
    const Layer& layer = layers_[static_cast<std::size_t>(i)];
    norm(layer.attention_norm, count, x, normed, threads);
    linear(layer.qkv, count, normed, hidden, qkv, nullptr, threads);
    if (rows.block_tokens == 0) {
      attention(rows, kernels::AffineMap{rows.first.data()}, pool, i, work, threads);
    } else {
      attention(rows,
                kernels::BlockTableMap{rows.table.data(), rows.table_stride, rows.block_tokens},
                pool, i, work, threads);
    }
    linear(layer.o, count, work.attended.data(), shape_.q_width(), x, x, threads);

    norm(layer.mlp_norm, count, x, normed, threads);
    linear(layer.up, count, normed, hidden, mlp, nullptr, threads);
    kernels::cpu::activation(
        {.kind = shape_.gated ? kernels::ActivationKind::silu_mul : kernels::ActivationKind::relu,
         .rows = count,
         .width = shape_.ffn,
         .x = mlp,
         .x_stride = up_width,
         .y = mlp,
         .y_stride = up_width,
         .dtype = DType::f32},
        threads);
    linear(layer.down, count, mlp, up_width, x, x, threads);
  }

  const int wanted = static_cast<int>(rows.logits.size());
  float* last = fit(work.last, wanted, hidden);
  for (int i = 0; i < wanted; ++i) {
    const float* from = x + std::int64_t{rows.logits[static_cast<std::size_t>(i)]} * hidden;
    std::copy(from, from + hidden, last + std::int64_t{i} * hidden);
  }
  norm(final_norm_, wanted, last, last, threads);
  float* logits = fit(work.logits, wanted, shape_.vocab);
  linear(lm_head_, wanted, last, hidden, logits, nullptr, threads);
  return {logits, static_cast<std::size_t>(wanted) * static_cast<std::size_t>(shape_.vocab)};
}

}  // namespace kvstow
