#include "core/exec/cuda/plan_runner.h"

#include <algorithm>

#include "core/exec/cuda/step_kernels.h"
#include "kernels/cuda/cuda_check.h"

namespace kvstow {

using kernels::KvLayout;
using kernels::cuda::slot_bytes_of_all_layers;

namespace {

constexpr std::size_t kStagingBytes = std::size_t{256} << 20;
constexpr int kNotANumber = 0xff;  // as every byte: a NaN in f16 and bf16
constexpr double kHoldUpSeconds = 2e-3;

bool is_swap(MemOpKind kind) {
  return kind == MemOpKind::swap_out || kind == MemOpKind::swap_in;
}

}  // namespace

void hold_up(cudaStream_t stream) {
  spin(kHoldUpSeconds, stream);
}

PlanRunner::PlanRunner(const KvLayout& device, const KvLayout& host, bool poison, Edge dropped)
    : poison_(poison), dropped_(dropped) {
  pool_data_ = {static_cast<std::size_t>(device.elements()), "the KV pool"};
  pool_ = {pool_data_.get(), device};
  if (poison) pool_data_.fill_bytes(kNotANumber);
  if (host.slots == 0) return;
  const auto slot_bytes = static_cast<std::size_t>(slot_bytes_of_all_layers(host));
  host_data_ = {static_cast<std::size_t>(host.elements()), "the host's KV pool"};
  host_ = {host_data_.get(), host};
  if (poison) {
    std::fill_n(host_data_.get(), host_data_.size(), static_cast<std::uint16_t>(-1));  // NaN
  }
  staging_.slots = std::min<std::int64_t>(
      host.slots, static_cast<std::int64_t>(std::max<std::size_t>(kStagingBytes / slot_bytes, 1)));
  staging_data_ = {static_cast<std::size_t>(staging_.slots) * slot_bytes / sizeof(std::uint16_t),
                   "the swaps' staging buffer"};
  staging_.data = staging_data_.get();
}

PlanRunner::~PlanRunner() {
  cudaStreamSynchronize(swaps_);
}

PlanRunner::Extent PlanRunner::extent(Slot first, Tokens length) {
  return {first.index(), first.index() + length.count()};
}

bool PlanRunner::meets(const Extents& extents, const Extent& extent) {
  return std::any_of(extents.begin(), extents.end(),
                     [&](const Extent& e) { return e.meets(extent); });
}

// Runs of operations of one kind, in order. Frees move nothing; only poisoning makes them work.
void PlanRunner::run(const MemPlan& plan, cudaStream_t compute) {
  const std::span<const MemOp> ops = plan.ops();
  for (std::size_t at = 0; at < ops.size();) {
    const MemOpKind kind = ops[at].kind;
    std::size_t end = at + 1;
    if (is_free(kind)) {
      if (poison_) poison_freed(ops[at], compute);
    } else {
      while (end < ops.size() && ops[end].kind == kind) ++end;
      const auto same = ops.subspan(at, end - at);
      if (is_swap(kind)) {
        run_swaps(same, compute);
      } else {
        run_copies(same, compute);
      }
    }
    at = end;
  }
  if (!arriving_.empty() && dropped_ != Edge::swap_in_before_layers) wait_for_swaps(compute);
}

void PlanRunner::run_copies(std::span<const MemOp> copies, cudaStream_t compute) {
  const bool arriving = std::any_of(copies.begin(), copies.end(), [&](const MemOp& op) {
    return meets(arriving_, extent(op.src, op.length)) ||
           meets(arriving_, extent(op.dst, op.length));
  });
  const bool reused = std::any_of(copies.begin(), copies.end(), [&](const MemOp& op) {
    return meets(quarantine_, extent(op.dst, op.length));
  });
  if (arriving) wait_for_swaps(compute);
  if (reused) end_quarantine(compute);
  kernels::cuda::run_mem_plan(kernels::cuda::level_plan(copies), pool_, host_, staging_, compute);
}

void PlanRunner::run_swaps(std::span<const MemOp> swaps, cudaStream_t compute) {
  const bool out = swaps.front().kind == MemOpKind::swap_out;
  if (dropped_ != Edge::layers_before_swap) {
    KVSTOW_CUDA(cudaEventRecord(compute_at_, compute));
    KVSTOW_CUDA(cudaStreamWaitEvent(swaps_, compute_at_));
  }
  if (dropped_ == (out ? Edge::swap_out_before_reuse : Edge::swap_in_before_layers)) {
    hold_up(swaps_);
  }
  kernels::cuda::run_mem_plan(kernels::cuda::level_plan(swaps), pool_, host_, staging_, swaps_);
  for (const MemOp& op : swaps) {
    if (out) {
      quarantine_.push_back(extent(op.src, op.length));
    } else {
      arriving_.push_back(extent(op.dst, op.length));
    }
  }
}

// The stream that still reads or writes the slots poisons them, after its own work.
void PlanRunner::poison_freed(const MemOp& op, cudaStream_t compute) {
  const auto slots = static_cast<std::size_t>(op.length.count());
  if (op.kind == MemOpKind::free_host) {
    const auto bytes = static_cast<std::size_t>(slot_bytes_of_all_layers(host_.layout));
    auto* at = static_cast<unsigned char*>(host_.data);
    KVSTOW_CUDA(cudaMemsetAsync(at + static_cast<std::size_t>(op.src.index()) * bytes, kNotANumber,
                                slots * bytes, swaps_));
    return;
  }
  const Extent freed = extent(op.src, op.length);
  const bool swapping = meets(quarantine_, freed) || meets(arriving_, freed);
  if (swapping) quarantine_.push_back(freed);  // more of it than what was swapped
  const std::size_t slot_bytes =
      static_cast<std::size_t>(pool_.layout.slot_stride()) * sizeof(std::uint16_t);
  auto* at = static_cast<unsigned char*>(pool_.data) +
             static_cast<std::size_t>(op.src.index()) * slot_bytes;
  for (int plane = 0; plane < 2 * pool_.layout.layers; ++plane) {
    KVSTOW_CUDA(cudaMemsetAsync(at, kNotANumber, slots * slot_bytes, swapping ? swaps_ : compute));
    at += static_cast<std::size_t>(pool_.layout.slots) * slot_bytes;
  }
}

void PlanRunner::wait_for_swaps(cudaStream_t compute) {
  KVSTOW_CUDA(cudaEventRecord(swaps_at_, swaps_));
  KVSTOW_CUDA(cudaStreamWaitEvent(compute, swaps_at_));
  quarantine_.clear();
  arriving_.clear();
}

void PlanRunner::end_quarantine(cudaStream_t compute) {
  if (dropped_ == Edge::swap_out_before_reuse) return quarantine_.clear();
  wait_for_swaps(compute);
}

void PlanRunner::before_writing(std::span<const std::int64_t> slots, cudaStream_t compute) {
  if (quarantine_.empty()) return;
  if (cudaStreamQuery(swaps_) == cudaSuccess) return end_quarantine(compute);  // at no price
  const bool meet = std::any_of(slots.begin(), slots.end(), [&](std::int64_t slot) {
    return slot >= 0 && meets(quarantine_, {slot, slot + 1});
  });
  if (meet) end_quarantine(compute);
}

void PlanRunner::read(Tier tier, PoolImage& image) const {
  KVSTOW_CUDA(cudaDeviceSynchronize());
  if (tier == Tier::host) {
    const auto bytes = std::as_bytes(std::span(host_data_.get(), host_data_.size()));
    image.slot_bytes = static_cast<std::size_t>(slot_bytes_of_all_layers(pool_.layout));
    image.data.assign(bytes.begin(), bytes.end());
    return;
  }
  std::vector<std::uint16_t> pool(pool_data_.size());
  KVSTOW_CUDA(cudaMemcpy(pool.data(), pool_.data, pool.size() * sizeof(std::uint16_t),
                         cudaMemcpyDeviceToHost));
  image.gather(std::as_bytes(std::span(pool)), 2 * static_cast<std::size_t>(pool_.layout.layers),
               static_cast<std::size_t>(pool_.layout.slots));
}

}  // namespace kvstow
