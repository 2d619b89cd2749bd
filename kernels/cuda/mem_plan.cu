#include <algorithm>
#include <limits>
#include <string>
#include <vector>

#include "kernels/cuda/cache_ops.h"
#include "kernels/cuda/cuda_check.h"
#include "kernels/cuda/elements.cuh"
#include "kernels/cuda/move_slots.h"

namespace kvstow::kernels::cuda {
namespace {

// A buffer laid out like a HostPool.
Space staged(void* data, const KvLayout& layout) {
  return {static_cast<char*>(data), slot_bytes_of_all_layers(layout),
          layout.slot_stride() * static_cast<std::int64_t>(size_of(layout.dtype))};
}

void require_inside(const MemOp& op, std::int64_t src_slots, std::int64_t dst_slots) {
  const std::int64_t n = op.length.count();
  require(op.src.index() >= 0 && op.src.index() + n <= src_slots && op.dst.index() >= 0 &&
              op.dst.index() + n <= dst_slots,
          "mem_plan", "an operation leaves its pool");
}

// One DMA for each run of host slots, of operations staged side by side. All DMAs of a flush are
// one call where the toolkit and the stream allow it: one after the other costs some 2.5 us each.
class HostRuns {
 public:
  HostRuns(const HostPool& host, const Staging& staging, cudaMemcpyKind kind, cudaStream_t stream)
      : host_(host), staging_(staging), kind_(kind), stream_(stream) {}

  void add(std::int64_t host_slot, std::int64_t staged_slot, std::int64_t slots) {
    const std::int64_t slot = slot_bytes_of_all_layers(host_.layout);
    char* in_host = static_cast<char*>(host_.data) + host_slot * slot;
    char* in_staging = static_cast<char*>(staging_.data) + staged_slot * slot;
    const auto bytes = static_cast<std::size_t>(slots * slot);
    if (!bytes_.empty() && in_host == in_host_.back() + bytes_.back() &&
        in_staging == in_staging_.back() + bytes_.back()) {
      bytes_.back() += bytes;
      return;
    }
    in_host_.push_back(in_host);
    in_staging_.push_back(in_staging);
    bytes_.push_back(bytes);
  }

  void flush() {
    const bool out = kind_ == cudaMemcpyDeviceToHost;
    const std::vector<char*>& from = out ? in_staging_ : in_host_;
    const std::vector<char*>& to = out ? in_host_ : in_staging_;
    const std::string shape = std::to_string(bytes_.size()) + " runs";
#if CUDART_VERSION >= 13000
    const bool legacy = stream_ == nullptr || stream_ == cudaStreamLegacy;
    if (bytes_.size() > 1 && !legacy) {
      const std::vector<const void*> sources(from.begin(), from.end());
      const std::vector<const void*> targets(to.begin(), to.end());
      cudaMemcpyAttributes attributes{};
      attributes.srcAccessOrder = cudaMemcpySrcAccessOrderStream;
      std::size_t first = 0;  // the attributes are those of all copies
      KVSTOW_CUDA_SHAPE(cudaMemcpyBatchAsync(targets.data(), sources.data(), bytes_.data(),
                                             bytes_.size(), &attributes, &first, 1, stream_),
                        shape);
      return clear();
    }
#endif
    for (std::size_t i = 0; i < bytes_.size(); ++i) {
      KVSTOW_CUDA_SHAPE(cudaMemcpyAsync(to[i], from[i], bytes_[i], kind_, stream_), shape);
    }
    clear();
  }

 private:
  void clear() {
    in_host_.clear();
    in_staging_.clear();
    bytes_.clear();
  }

  const HostPool& host_;
  const Staging& staging_;
  cudaMemcpyKind kind_;
  cudaStream_t stream_;
  std::vector<char*> in_host_;
  std::vector<char*> in_staging_;
  std::vector<std::size_t> bytes_;
};

struct Piece {
  std::int64_t on_device;  // first slots
  std::int64_t on_host;
  std::int64_t in_staging;
  std::int64_t length;
};

// Cuts swaps into rounds that fit the staging buffer: round(pieces) for each.
template <class Round>
void in_rounds(std::span<const MemOp> swaps, MemOpKind kind, const Staging& staging,
               const Round& round) {
  require(staging.slots > 0 || swaps.empty(), "swap", "no room in the staging buffer");
  const bool out = kind == MemOpKind::swap_out;
  std::vector<Piece> pieces;
  std::int64_t used = 0;
  for (const MemOp& op : swaps) {
    require(op.kind == kind, "swap", "an operation of another kind");
    for (std::int64_t done = 0; done < op.length.count();) {
      const std::int64_t n = std::min(op.length.count() - done, staging.slots - used);
      const std::int64_t src = op.src.index() + done;
      const std::int64_t dst = op.dst.index() + done;
      pieces.push_back({out ? src : dst, out ? dst : src, used, n});
      done += n;
      used += n;
      if (used == staging.slots) {
        round(pieces);
        pieces.clear();
        used = 0;
      }
    }
  }
  if (used > 0) round(pieces);
}

}  // namespace

void copy_slots(std::span<const MemOp> copies, const KvPool& device, cudaStream_t stream,
                Dependent dependent) {
  const Space space = space_of(device);
  Mover mover(space, space, device.layout, stream, dependent);
  for (const MemOp& op : copies) {
    require(op.kind == MemOpKind::copy, "copy_slots", "an operation of another kind");
    require_inside(op, device.layout.slots, device.layout.slots);
    mover.add(op.src.index(), op.dst.index(), op.length.count());
  }
  mover.flush();
}

void gather_slots(std::span<const MemOp> swaps, const KvPool& device, const Staging& staging,
                  cudaStream_t stream, Dependent dependent) {
  Mover gather(space_of(device), staged(staging.data, device.layout), device.layout, stream,
               dependent);
  std::int64_t used = 0;
  for (const MemOp& op : swaps) {
    require(op.kind == MemOpKind::swap_out, "gather_slots", "an operation of another kind");
    require(used + op.length.count() <= staging.slots, "gather_slots", "no room to stage them");
    require_inside(op, device.layout.slots, std::numeric_limits<std::int64_t>::max());
    gather.add(op.src.index(), used, op.length.count());
    used += op.length.count();
  }
  gather.flush();
}

void swap_out(std::span<const MemOp> swaps, const KvPool& device, const HostPool& host,
              const Staging& staging, cudaStream_t stream) {
  for (const MemOp& op : swaps) require_inside(op, device.layout.slots, host.layout.slots);
  Mover gather(space_of(device), staged(staging.data, device.layout), device.layout, stream);
  HostRuns runs(host, staging, cudaMemcpyDeviceToHost, stream);
  in_rounds(swaps, MemOpKind::swap_out, staging, [&](const std::vector<Piece>& pieces) {
    for (const Piece& p : pieces) gather.add(p.on_device, p.in_staging, p.length);
    gather.flush();
    for (const Piece& p : pieces) runs.add(p.on_host, p.in_staging, p.length);
    runs.flush();
  });
}

void swap_in(std::span<const MemOp> swaps, const KvPool& device, const HostPool& host,
             const Staging& staging, cudaStream_t stream) {
  for (const MemOp& op : swaps) require_inside(op, host.layout.slots, device.layout.slots);
  Mover scatter(staged(staging.data, device.layout), space_of(device), device.layout, stream);
  HostRuns runs(host, staging, cudaMemcpyHostToDevice, stream);
  in_rounds(swaps, MemOpKind::swap_in, staging, [&](const std::vector<Piece>& pieces) {
    for (const Piece& p : pieces) runs.add(p.on_host, p.in_staging, p.length);
    runs.flush();
    for (const Piece& p : pieces) scatter.add(p.in_staging, p.on_device, p.length);
    scatter.flush();
  });
}

void run_mem_plan(const LevelledPlan& plan, const KvPool& device, const HostPool& host,
                  const Staging& staging, cudaStream_t stream) {
  std::vector<MemOp> of_kind;
  for (std::size_t l = 0; l < plan.levels(); ++l) {
    for (const MemOpKind kind : {MemOpKind::copy, MemOpKind::swap_out, MemOpKind::swap_in}) {
      of_kind.clear();
      for (const MemOp& op : plan.level(l)) {
        if (op.kind == kind) of_kind.push_back(op);
      }
      if (kind == MemOpKind::copy) copy_slots(of_kind, device, stream);
      if (kind == MemOpKind::swap_out) swap_out(of_kind, device, host, staging, stream);
      if (kind == MemOpKind::swap_in) swap_in(of_kind, device, host, staging, stream);
    }
  }
}

void swap_block_by_block(std::span<const MemOp> swaps, int block_tokens, const KvPool& device,
                         const KvPool& host, cudaStream_t stream) {
  for (const MemOp& op : swaps) {
    const bool out = op.kind == MemOpKind::swap_out;
    require(out || op.kind == MemOpKind::swap_in, "swap", "an operation of another kind");
    const KvPool& from = out ? device : host;
    const KvPool& to = out ? host : device;
    require_inside(op, from.layout.slots, to.layout.slots);
    const Space source = space_of(from);
    const Space target = space_of(to);
    for (std::int64_t done = 0; done < op.length.count(); done += block_tokens) {
      const std::int64_t n = std::min<std::int64_t>(block_tokens, op.length.count() - done);
      for (int plane = 0; plane < 2 * device.layout.layers; ++plane) {
        KVSTOW_CUDA(cudaMemcpyAsync(
            target.data + plane * target.plane_bytes + (op.dst.index() + done) * target.slot_bytes,
            source.data + plane * source.plane_bytes + (op.src.index() + done) * source.slot_bytes,
            static_cast<std::size_t>(n * source.slot_bytes),
            out ? cudaMemcpyDeviceToHost : cudaMemcpyHostToDevice, stream));
      }
    }
  }
}

}  // namespace kvstow::kernels::cuda
