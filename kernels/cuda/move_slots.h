// Moves of slots between places with different strides, all layers, K and V, in one launch: what
// copies, gathers and scatters of a MemPlan are made of.
#pragma once

#include <cuda_runtime_api.h>

#include <cstddef>
#include <cstdint>

#include "kernels/cuda/dependent.h"
#include "kernels/kernels.h"

namespace kvstow::kernels::cuda {

// Where a slot's K or V of one layer (a PLANE of the pool) lies.
struct Space {
  char* data;
  std::int64_t slot_bytes;   // from slot to slot
  std::int64_t plane_bytes;  // from plane to plane
};

[[nodiscard]] Space space_of(const KvPool& pool);

// Slots [src, src + n) to [dst, dst + n). The difference of two neighbours' `first` is n.
struct Move {
  std::int32_t src;
  std::int32_t dst;
  std::uint32_t first;  // 16-byte vectors of the moves before it, in one plane
};

// Collects moves and launches them when flushed or when one launch takes no more (2048 moves, 2^20
// slots). The layout must outlive it. No slot is moved to twice, or moved both from and to.
class Mover {
 public:
  Mover(const Space& from, const Space& to, const KvLayout& layout, cudaStream_t stream,
        Dependent dependent = Dependent::no);

  void add(std::int64_t src, std::int64_t dst, std::int64_t slots);
  void flush();

 private:
  static constexpr std::size_t kFew = 64;
  static constexpr std::size_t kMany = 2048;          // 24 KB of the 32 KB of parameters
  static constexpr std::int64_t kMaxSlots = 1 << 20;  // vectors of a plane fit 32 bits

  template <int kMax>
  void launch_list();

  Space from_;
  Space to_;
  const KvLayout& layout_;
  cudaStream_t stream_;
  Dependent dependent_;
  std::uint32_t slot_vectors_;
  std::size_t count_ = 0;
  std::int64_t slots_ = 0;
  Move moves_[kMany];
};

}  // namespace kvstow::kernels::cuda
