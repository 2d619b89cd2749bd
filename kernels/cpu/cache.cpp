#include <cstring>

#include "core/check.h"
#include "kernels/cpu/cpu.h"

namespace kvstow::kernels::cpu {

void write_kv(const WriteKvArgs& a, ThreadPool& threads) {
  KVSTOW_DCHECK(a.dtype == DType::f32 && a.pool.layout.dtype == DType::f32, "f32 only");
  const std::int64_t width = a.pool.layout.slot_stride();
  const std::size_t bytes = static_cast<std::size_t>(width) * sizeof(float);
  float* k_pool = static_cast<float*>(a.pool.data) + a.pool.layout.part_offset(a.layer, 0);
  float* v_pool = static_cast<float*>(a.pool.data) + a.pool.layout.part_offset(a.layer, 1);
  constexpr int kRows = 64;
  threads.run(ceil_div(a.rows, kRows), [&](std::int64_t task) {
    for (std::int64_t row = task * kRows; row < a.rows && row < (task + 1) * kRows; ++row) {
      const std::int64_t slot = a.slots[row];
      if (slot < 0) continue;
      KVSTOW_DCHECK(slot < a.pool.layout.slots, "slot past the pool");
      std::memcpy(k_pool + slot * width, static_cast<const float*>(a.k) + row * a.k_stride, bytes);
      std::memcpy(v_pool + slot * width, static_cast<const float*>(a.v) + row * a.v_stride, bytes);
    }
  });
}

void run_mem_plan(const MemPlanArgs& a, ThreadPool& threads) {
  const KvLayout& shape = a.device.layout;
  const std::int64_t width = shape.slot_stride() * static_cast<std::int64_t>(size_of(shape.dtype));
  for (std::int64_t i = 0; i < a.count; ++i) {
    const MemOp& op = a.ops[i];
    if (is_free(op.kind)) continue;
    const KvPool& from = op.kind == MemOpKind::swap_in ? a.host : a.device;
    const KvPool& to = op.kind == MemOpKind::swap_out ? a.host : a.device;
    const std::int64_t tokens = op.length.count();
    KVSTOW_CHECK(op.src.index() >= 0 && op.src.index() + tokens <= from.layout.slots &&
                     op.dst.index() >= 0 && op.dst.index() + tokens <= to.layout.slots,
                 "a memory plan moves slots outside its pool");
    // One operation after the other, its layers in parallel: they never overlap.
    threads.run(std::int64_t{shape.layers} * 2, [&](std::int64_t task) {
      const int layer = static_cast<int>(task / 2);
      const int part = static_cast<int>(task % 2);
      const auto at = [&](const KvPool& pool, Slot slot) {
        return static_cast<char*>(pool.data) +
               pool.layout.part_offset(layer, part) *
                   static_cast<std::int64_t>(size_of(shape.dtype)) +
               slot.index() * width;
      };
      std::memcpy(at(to, op.dst), at(from, op.src), static_cast<std::size_t>(tokens * width));
    });
  }
}

}  // namespace kvstow::kernels::cpu
