#include <algorithm>
#include <limits>

#include "kernels/cuda/cache_ops.h"
#include "kernels/cuda/elements.cuh"
#include "kernels/cuda/launch.h"

namespace kvstow::kernels::cuda {
namespace {

constexpr int kThreads = 256;
constexpr int kVectors = 4;  // of 16 bytes, in flight in each thread

// Where a slot's K or V of one layer (a PLANE of the pool) lies.
struct Space {
  char* data;
  std::int64_t slot_bytes;   // from slot to slot
  std::int64_t plane_bytes;  // from plane to plane
};

Space space_of(const KvPool& pool) {
  const auto element = static_cast<std::int64_t>(size_of(pool.layout.dtype));
  return {static_cast<char*>(pool.data), pool.layout.slot_stride() * element,
          pool.layout.slots * pool.layout.slot_stride() * element};
}

// A buffer laid out like a HostPool.
Space staged(void* data, const KvLayout& layout) {
  return {static_cast<char*>(data), slot_bytes_of_all_layers(layout),
          layout.slot_stride() * static_cast<std::int64_t>(size_of(layout.dtype))};
}

// Slots [src, src + n) to [dst, dst + n); n is the difference of two neighbours' `first`.
struct Move {
  std::int32_t src;
  std::int32_t dst;
  std::int32_t first;  // slots of the moves before it
};

// Travels as a kernel parameter: nothing to upload, nothing to keep until the launch has run.
template <int kMax>
struct MoveList {
  std::int32_t count;
  Move moves[kMax + 1];  // moves[count].first is the number of slots
};

// Every thread moves kVectors vectors of the line of all slots of all moves; planes along y.
template <int kMax>
__global__ void __launch_bounds__(kThreads)
    move_slots_kernel(const __grid_constant__ MoveList<kMax> list, const Space from, const Space to,
                      const std::uint32_t slot_vectors, const std::uint32_t line_vectors) {
  const std::uint32_t warp_first = (blockIdx.x * kThreads + threadIdx.x / 32 * 32) * kVectors;
  if (warp_first >= line_vectors) return;
  int low = 0;  // the move of the warp's first slot is in [low, high)
  int high = list.count;
  const auto warp_slot = static_cast<std::int32_t>(warp_first / slot_vectors);
  while (high - low > 1) {
    const int middle = (low + high) / 2;
    if (list.moves[middle].first <= warp_slot) {
      low = middle;
    } else {
      high = middle;
    }
  }
  const char* source = from.data + blockIdx.y * from.plane_bytes;
  char* target = to.data + blockIdx.y * to.plane_bytes;
  uint4 value[kVectors];
  std::int64_t target_at[kVectors];
#pragma unroll
  for (int i = 0; i < kVectors; ++i) {
    const std::uint32_t v = warp_first + i * 32 + threadIdx.x % 32;
    target_at[i] = -1;
    if (v >= line_vectors) continue;
    const auto slot = static_cast<std::int32_t>(v / slot_vectors);
    const std::int64_t in_slot = std::int64_t{v % slot_vectors} * 16;
    while (slot >= list.moves[low + 1].first) ++low;
    const std::int64_t in_move = slot - list.moves[low].first;
    target_at[i] = (list.moves[low].dst + in_move) * to.slot_bytes + in_slot;
    value[i] = __ldcs(reinterpret_cast<const uint4*>(
        source + (list.moves[low].src + in_move) * from.slot_bytes + in_slot));
  }
#pragma unroll
  for (int i = 0; i < kVectors; ++i) {
    if (target_at[i] >= 0) *reinterpret_cast<uint4*>(target + target_at[i]) = value[i];
  }
}

template <int kMax>
void launch_moves(std::span<const Move> moves, std::int32_t slots, const Space& from,
                  const Space& to, const KvLayout& layout, cudaStream_t stream) {
  MoveList<kMax> list;
  list.count = static_cast<std::int32_t>(moves.size());
  std::copy(moves.begin(), moves.end(), list.moves);
  list.moves[moves.size()] = {0, 0, slots};
  const auto slot_vectors = static_cast<std::uint32_t>(
      layout.slot_stride() * static_cast<std::int64_t>(size_of(layout.dtype)) / 16);
  const std::uint32_t line = slot_vectors * static_cast<std::uint32_t>(slots);
  constexpr std::uint32_t kBlock = kThreads * kVectors;
  launch("move_slots", move_slots_kernel<kMax>,
         {.grid = dim3((line + kBlock - 1) / kBlock, static_cast<unsigned>(2 * layout.layers)),
          .block = kThreads},
         stream, list, from, to, slot_vectors, line);
}

// Collects moves and launches them when enough are there.
class Mover {
 public:
  Mover(const Space& from, const Space& to, const KvLayout& layout, cudaStream_t stream)
      : from_(from), to_(to), layout_(layout), stream_(stream) {}

  void add(std::int64_t src, std::int64_t dst, std::int64_t length) {
    const std::int64_t room = kMaxSlots;
    while (length > 0) {
      if (count_ == kMany || slots_ == room) flush();
      const std::int64_t n = std::min(length, room - slots_);
      moves_[count_++] = {static_cast<std::int32_t>(src), static_cast<std::int32_t>(dst),
                          static_cast<std::int32_t>(slots_)};
      slots_ += n;
      src += n;
      dst += n;
      length -= n;
    }
  }

  void flush() {
    if (count_ == 0) return;
    const std::span<const Move> moves(moves_, count_);
    const auto slots = static_cast<std::int32_t>(slots_);
    if (count_ <= kFew) {
      launch_moves<kFew>(moves, slots, from_, to_, layout_, stream_);
    } else {
      launch_moves<kMany>(moves, slots, from_, to_, layout_, stream_);
    }
    count_ = 0;
    slots_ = 0;
  }

 private:
  static constexpr std::size_t kFew = 64;
  static constexpr std::size_t kMany = 2048;          // 24 KB of the 32 KB of parameters
  static constexpr std::int64_t kMaxSlots = 1 << 20;  // vectors of a line fit 32 bits

  Space from_;
  Space to_;
  const KvLayout& layout_;
  cudaStream_t stream_;
  std::size_t count_ = 0;
  std::int64_t slots_ = 0;
  Move moves_[kMany];
};

void require_inside(const MemOp& op, std::int64_t src_slots, std::int64_t dst_slots) {
  const std::int64_t n = op.length.count();
  require(op.src.index() >= 0 && op.src.index() + n <= src_slots && op.dst.index() >= 0 &&
              op.dst.index() + n <= dst_slots,
          "mem_plan", "an operation leaves its pool");
}

// One DMA for each run of host slots, of operations [first, ...) staged side by side.
class HostRuns {
 public:
  HostRuns(const HostPool& host, const Staging& staging, cudaMemcpyKind kind, cudaStream_t stream)
      : host_(host), staging_(staging), kind_(kind), stream_(stream) {}

  void add(std::int64_t host_slot, std::int64_t staged_slot, std::int64_t length) {
    if (length_ > 0 && host_slot == host_slot_ + length_ && staged_slot == staged_slot_ + length_) {
      length_ += length;
      return;
    }
    flush();
    host_slot_ = host_slot;
    staged_slot_ = staged_slot;
    length_ = length;
  }

  void flush() {
    if (length_ == 0) return;
    const std::int64_t slot = slot_bytes_of_all_layers(host_.layout);
    char* in_host = static_cast<char*>(host_.data) + host_slot_ * slot;
    char* in_staging = static_cast<char*>(staging_.data) + staged_slot_ * slot;
    const bool out = kind_ == cudaMemcpyDeviceToHost;
    KVSTOW_CUDA_SHAPE(cudaMemcpyAsync(out ? in_host : in_staging, out ? in_staging : in_host,
                                      static_cast<std::size_t>(length_ * slot), kind_, stream_),
                      std::to_string(length_) + " slots of " + std::to_string(slot) + " bytes");
    length_ = 0;
  }

 private:
  const HostPool& host_;
  const Staging& staging_;
  cudaMemcpyKind kind_;
  cudaStream_t stream_;
  std::int64_t host_slot_ = 0;
  std::int64_t staged_slot_ = 0;
  std::int64_t length_ = 0;
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

void copy_slots(std::span<const MemOp> copies, const KvPool& device, cudaStream_t stream) {
  const Space space = space_of(device);
  Mover mover(space, space, device.layout, stream);
  for (const MemOp& op : copies) {
    require(op.kind == MemOpKind::copy, "copy_slots", "an operation of another kind");
    require_inside(op, device.layout.slots, device.layout.slots);
    mover.add(op.src.index(), op.dst.index(), op.length.count());
  }
  mover.flush();
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
