// The one KV-cache layout and the two maps into it. Every kernel, CPU or CUDA, takes these structs.
//
//   [layer][K|V][slot][kv_head][head_dim]      one allocation, slot-major ("NHD"), 64-bit offsets
//
// An allocator only decides which slots a sequence uses; a kernel is specialised by the map (affine
// extent or block table) and does the same arithmetic in the same order under both.
#pragma once

#include <cstddef>
#include <cstdint>

#if defined(__CUDACC__)
#define KVSTOW_HD __host__ __device__
#else
#define KVSTOW_HD
#endif

namespace kvstow::kernels {

enum class DType : std::uint8_t { f32, f16, bf16 };

[[nodiscard]] KVSTOW_HD constexpr std::size_t size_of(DType type) {
  return type == DType::f32 ? 4 : 2;
}

struct KvLayout {
  int layers;
  int kv_heads;
  int head_dim;
  std::int64_t slots;
  DType dtype;

  // Elements from one slot to the next.
  [[nodiscard]] KVSTOW_HD constexpr std::int64_t slot_stride() const {
    return static_cast<std::int64_t>(kv_heads) * head_dim;
  }
  // First element of the K (part 0) or V (part 1) of one layer.
  [[nodiscard]] KVSTOW_HD constexpr std::int64_t part_offset(int layer, int part) const {
    return (static_cast<std::int64_t>(layer) * 2 + part) * slots * slot_stride();
  }
  [[nodiscard]] KVSTOW_HD constexpr std::int64_t elements() const {
    return part_offset(layers, 0);
  }
};

// Position p of map row r lies in slot first[r] + p.
struct AffineMap {
  const std::int64_t* first;  // [rows]

  [[nodiscard]] KVSTOW_HD std::int64_t slot(std::int64_t row, std::int64_t position) const {
    return first[row] + position;
  }
};

// Position p of map row r lies in block ids[r * stride + p / block_tokens], at p % block_tokens.
// A fixed stride (no CSR), so that ids load without waiting for anything. Entries past a row's
// last block are never read (tests set them to -1).
struct BlockTableMap {
  const std::int32_t* ids;  // [rows, stride]
  std::int64_t stride;
  int block_tokens;  // any, from 1 up

  [[nodiscard]] KVSTOW_HD std::int64_t slot(std::int64_t row, std::int64_t position) const {
    const std::int64_t id = ids[row * stride + position / block_tokens];
    return id * block_tokens + position % block_tokens;
  }
};

}  // namespace kvstow::kernels
