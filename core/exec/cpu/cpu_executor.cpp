#include "core/exec/cpu/cpu_executor.h"

#include <algorithm>
#include <chrono>
#include <limits>

#include "core/check.h"
#include "core/exec/rows/group_draw.h"

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
    if (config_.teacher != nullptr) {
      config_.teacher->draw(*draw.group, own, vocab, histories_, tokens_);
    } else {
      draw_group(*draw.group, own, vocab, config_.sampling, config_.seed, histories_, tokens_);
    }
  }
}

void CpuExecutor::read_pool(Tier tier, PoolImage& image) {
  const KvPool& pool = tier == Tier::device ? device_ : host_;
  const FloatArray& data = tier == Tier::device ? device_data_ : host_data_;
  image.gather(std::as_bytes(std::span(data.data(), data.size())),
               2 * static_cast<std::size_t>(pool.layout.layers),
               static_cast<std::size_t>(pool.layout.slots));
}

}  // namespace kvstow
