#include "core/exec/cpu/cpu_executor.h"

#include <algorithm>
#include <chrono>
#include <limits>

#include "core/check.h"
#include "core/exec/rows/beam_draw.h"

namespace kvstow {

using kernels::DType;
using kernels::KvPool;

namespace {

KvPool make_pool(const Transformer& shape, Tokens slots, bool poison, FloatArray& data) {
  KvPool pool{nullptr, {shape.layers, shape.kv_heads, shape.head_dim, slots.count(), DType::f32}};
  data = FloatArray(static_cast<std::size_t>(pool.layout.elements()));
  pool.data = data.data();
  if (poison) std::fill_n(data.data(), data.size(), std::numeric_limits<float>::quiet_NaN());
  return pool;
}

void poison_slots(const KvPool& pool, Slot first, Tokens length) {
  const std::int64_t width = pool.layout.slot_stride();
  KVSTOW_CHECK(first.index() >= 0 && first.index() + length.count() <= pool.layout.slots,
               "a memory plan frees slots outside its pool");
  for (int layer = 0; layer < pool.layout.layers; ++layer) {
    for (int part = 0; part < 2; ++part) {
      std::fill_n(static_cast<float*>(pool.data) + pool.layout.part_offset(layer, part) +
                      first.index() * width,
                  length.count() * width, std::numeric_limits<float>::quiet_NaN());
    }
  }
}

}  // namespace

CpuExecutor::CpuExecutor(std::shared_ptr<const CpuTransformer> model, const KvAllocator& allocator,
                         const CpuExecutorConfig& config)
    : model_(std::move(model)),
      config_(config),
      threads_(config.threads),
      histories_(model_->shape().vocab, config.seed),
      rows_(allocator, {.positions = Tokens(model_->shape().max_positions),
                        .slots = allocator.stats(Tier::device).capacity}) {
  const Transformer& shape = model_->shape();
  device_ = make_pool(shape, allocator.stats(Tier::device).capacity, config.poison, device_data_);
  host_ = make_pool(shape, allocator.stats(Tier::host).capacity, config.poison, host_data_);
}

void CpuExecutor::submit(const Step& step) {
  const auto begin = std::chrono::steady_clock::now();
  run_plan(step.plan);
  rows_.collect(step, histories_);
  tokens_.clear();
  if (rows_.rows().rows() > 0) draw(model_->forward(rows_.rows(), device_, work_, threads_));
  result_.tokens = tokens_;
  result_.elapsed = std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
}

void CpuExecutor::run_plan(const MemPlan& plan) {
  const auto run = [&](const MemOp* ops, std::ptrdiff_t count) {
    kernels::cpu::run_mem_plan({ops, count, device_, host_}, threads_);
  };
  if (!config_.poison) return run(plan.ops().data(), std::ssize(plan.ops()));
  for (const MemOp& op : plan.ops()) {
    run(&op, 1);
    if (op.kind == MemOpKind::free_device) poison_slots(device_, op.src, op.length);
    if (op.kind == MemOpKind::free_host) poison_slots(host_, op.src, op.length);
  }
}

void CpuExecutor::draw(std::span<const float> logits) {
  const int vocab = model_->shape().vocab;
  for (const Draw& draw : rows_.draws()) {
    const auto own = logits.subspan(static_cast<std::size_t>(draw.first_row) * vocab,
                                    static_cast<std::size_t>(draw.rows) * vocab);
    if (draw.group->request->decoding.kind == DecodingKind::beam) {
      draw_beams(*draw.group, own, vocab, histories_, tokens_);
    } else {
      draw_samples(draw, own);
    }
  }
}

void CpuExecutor::draw_samples(const Draw& draw, std::span<const float> logits) {
  const Request& request = *draw.group->request;
  const auto vocab = static_cast<std::size_t>(model_->shape().vocab);
  const Tokens position = draw.group->first + draw.group->count - request.prompt;
  const auto sequences = draw.group->sequences;
  for (std::size_t i = 0; i < sequences.size(); ++i) {
    const auto row = logits.subspan(draw.rows == 1 ? 0 : i * vocab, vocab);
    const double uniform =
        uniform_for(config_.seed, request.id, static_cast<std::uint32_t>(i), position);
    const DrawnToken drawn = draw_token(row, config_.sampling, uniform);
    TokenHistory& history = histories_.of(sequences[i], request);
    KVSTOW_CHECK(std::ssize(history.tokens) == position.count(), "an output position drawn twice");
    history.tokens.push_back(drawn.token);
    tokens_.push_back({sequences[i], sequences[i], drawn.token, drawn.logprob});
  }
}

}  // namespace kvstow
