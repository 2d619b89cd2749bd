#include <algorithm>

#include "kernels/cuda/launch.h"
#include "kernels/cuda/move_slots.h"
#include "kernels/cuda/ptx.cuh"

namespace kvstow::kernels::cuda {
namespace {

constexpr int kThreads = 256;
constexpr int kVectors = 4;           // of 16 bytes, in flight in each thread
constexpr unsigned kSmallGrid = 512;  // blocks, half of those that run at a time on an H200

// Travels as a kernel parameter: nothing to upload, nothing to keep until the launch has run.
template <int kMax>
struct MoveList {
  std::int32_t count;
  Move moves[kMax + 1];  // moves[count].first is the number of vectors
};

// Every thread moves kVectors vectors of the line of all slots of all moves; planes along y. kRuns:
// slots follow each other without gaps in both spaces, so that a move is one run of bytes.
template <int kMax, bool kRuns>
__global__ void __launch_bounds__(kThreads)
    move_slots_kernel(const __grid_constant__ MoveList<kMax> list, const Space from, const Space to,
                      const std::uint32_t slot_vectors, const std::uint32_t line_vectors) {
  ptx::let_next_kernel_start();
  const std::uint32_t warp_first = (blockIdx.x * kThreads + threadIdx.x / 32 * 32) * kVectors;
  if (warp_first >= line_vectors) return;
  int low = 0;  // the move of the warp's first vector is in [low, high)
  int high = list.count;
  while (high - low > 1) {
    const int middle = (low + high) / 2;
    if (list.moves[middle].first <= warp_first) {
      low = middle;
    } else {
      high = middle;
    }
  }
  // Where the i-th vector of this thread comes from and goes to; false past the end of the line.
  const auto locate = [&](int i, int& move, const char*& source, char*& target) {
    const std::uint32_t v = warp_first + i * 32 + threadIdx.x % 32;
    if (v >= line_vectors) return false;
    while (v >= list.moves[move + 1].first) ++move;
    const Move& m = list.moves[move];
    const std::uint32_t in_move = v - m.first;
    const std::uint32_t slot = kRuns ? 0 : in_move / slot_vectors;
    const std::int64_t in_slot = std::int64_t{kRuns ? in_move : in_move % slot_vectors} * 16;
    source = from.data + blockIdx.y * from.plane_bytes + (m.src + slot) * from.slot_bytes + in_slot;
    target = to.data + blockIdx.y * to.plane_bytes + (m.dst + slot) * to.slot_bytes + in_slot;
    return true;
  };
  const char* source = nullptr;
  char* target[kVectors];
  // A small launch is one round of latency. Hints may come before the wait: the bytes are on their
  // way to L2, and the pages of both places looked up (planes lie megabytes apart).
  if (gridDim.x * gridDim.y <= kSmallGrid) {
    int move = low;
#pragma unroll
    for (int i = 0; i < kVectors; ++i) {
      if (!locate(i, move, source, target[0])) continue;
      if (threadIdx.x % 2 == 0) ptx::prefetch_l2(source);
      if (threadIdx.x == 0 && i == 0) ptx::prefetch_l2(target[0]);
    }
  }
  ptx::wait_for_earlier_kernels();
  uint4 value[kVectors];
#pragma unroll
  for (int i = 0; i < kVectors; ++i) {
    target[i] = nullptr;
    if (locate(i, low, source, target[i]))
      value[i] = __ldcs(reinterpret_cast<const uint4*>(source));
  }
#pragma unroll
  for (int i = 0; i < kVectors; ++i) {
    if (target[i]) *reinterpret_cast<uint4*>(target[i]) = value[i];
  }
}

}  // namespace

Space space_of(const KvPool& pool) {
  const auto element = static_cast<std::int64_t>(size_of(pool.layout.dtype));
  return {static_cast<char*>(pool.data), pool.layout.slot_stride() * element,
          pool.layout.slots * pool.layout.slot_stride() * element};
}

Mover::Mover(const Space& from, const Space& to, const KvLayout& layout, cudaStream_t stream,
             Dependent dependent)
    : from_(from),
      to_(to),
      layout_(layout),
      stream_(stream),
      dependent_(dependent),
      slot_vectors_(static_cast<std::uint32_t>(
          layout.slot_stride() * static_cast<std::int64_t>(size_of(layout.dtype)) / 16)) {}

void Mover::add(std::int64_t src, std::int64_t dst, std::int64_t slots) {
  while (slots > 0) {
    if (count_ == kMany || slots_ == kMaxSlots) flush();
    const std::int64_t n = std::min(slots, kMaxSlots - slots_);
    moves_[count_++] = {static_cast<std::int32_t>(src), static_cast<std::int32_t>(dst),
                        static_cast<std::uint32_t>(slots_) * slot_vectors_};
    slots_ += n;
    src += n;
    dst += n;
    slots -= n;
  }
}

void Mover::flush() {
  if (count_ > kFew) {
    launch_list<kMany>();
  } else if (count_ > 0) {
    launch_list<kFew>();
  }
  count_ = 0;
  slots_ = 0;
}

template <int kMax>
void Mover::launch_list() {
  const std::uint32_t line = slot_vectors_ * static_cast<std::uint32_t>(slots_);
  MoveList<kMax> list;
  list.count = static_cast<std::int32_t>(count_);
  std::copy_n(moves_, count_, list.moves);
  list.moves[count_] = {0, 0, line};
  constexpr std::uint32_t kBlock = kThreads * kVectors;
  const std::int64_t slot_bytes = std::int64_t{slot_vectors_} * 16;
  const bool runs = from_.slot_bytes == slot_bytes && to_.slot_bytes == slot_bytes;
  launch("move_slots", runs ? move_slots_kernel<kMax, true> : move_slots_kernel<kMax, false>,
         {.grid = dim3((line + kBlock - 1) / kBlock, static_cast<unsigned>(2 * layout_.layers)),
          .block = kThreads,
          .dependent = dependent_ == Dependent::yes},
         stream_, list, from_, to_, slot_vectors_, line);
}

}  // namespace kvstow::kernels::cuda
