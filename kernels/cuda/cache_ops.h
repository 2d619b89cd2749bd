// What moves K and V on the GPU: writes of new tokens, the copies of a MemPlan, swaps to the host.
// Device pointers, dtype f16 or bf16 (for new tokens f32, too); pool and arguments have the same
// dtype.
#pragma once

#include <cuda_runtime_api.h>

#include <span>

#include "kernels/cuda/dependent.h"
#include "kernels/cuda/mem_plan_levels.h"
#include "kernels/kernels.h"

namespace kvstow::kernels::cuda {

// --- New tokens ---

// head_dim a multiple of 16, at most 256; strides multiples of 8 elements.
void write_kv(const WriteKvArgs&, cudaStream_t stream, Dependent dependent = Dependent::no);

// What stands between the QKV projection and attention, in one pass over its output: q and k are
// normalised per head (Qwen3: RMSNorm) and rotated (LLaMA, Qwen3) where asked for, then q goes back
// to its place and k and v to their slots. All in fp32 with one rounding at the end.
struct RotateWriteArgs {
  WriteKvArgs kv;  // k as projected; it is not changed
  int heads;       // query heads
  void* q;         // [rows, heads * head_dim], in place
  std::int64_t q_stride;
  const void* q_weight;  // [head_dim] of the norm; null: no norm of q and k
  const void* k_weight;
  float epsilon;
  const std::int32_t* position;  // [rows]
  const float* cos;              // [positions, head_dim / 2]; null: no rotation
  const float* sin;
};
void rotate_and_write(const RotateWriteArgs&, cudaStream_t stream,
                      Dependent dependent = Dependent::no);

// --- Memory plans ---

// The host tier in pinned memory, a slot's K and V of all layers side by side, so that any extent
// of slots is one run and one DMA:
//   [slot][layer][K|V][kv_head][head_dim]
struct HostPool {
  void* data;
  KvLayout layout;
};

// Device memory through which swaps go: gathered there by a kernel, moved by one DMA a host run.
struct Staging {
  void* data;
  std::int64_t slots;  // room; a larger swap goes in several rounds
};

[[nodiscard]] constexpr std::int64_t slot_bytes_of_all_layers(const KvLayout& layout) {
  return 2 * layout.layers * layout.slot_stride() *
         static_cast<std::int64_t>(size_of(layout.dtype));
}

// Copies between slots of the device, all layers, K and V, in one launch (more than 2048 copies: in
// several). REQUIRES: of one level. Throws std::invalid_argument where one leaves the pool.
void copy_slots(std::span<const MemOp> copies, const KvPool& device, cudaStream_t stream,
                Dependent dependent = Dependent::no);

// The first half of a swap out: its slots side by side in the staging buffer, laid out like the
// host pool. Throws std::invalid_argument where they do not fit.
void gather_slots(std::span<const MemOp> swaps, const KvPool& device, const Staging& staging,
                  cudaStream_t stream, Dependent dependent = Dependent::no);

// Swaps of one direction. REQUIRES: of one level, and nothing else is using the staging buffer.
// The host memory is ready (swap out) or free to change (swap in) once the stream has got here. On
// the legacy default stream every run of host slots is a call of its own, which is slower.
void swap_out(std::span<const MemOp> swaps, const KvPool& device, const HostPool& host,
              const Staging& staging, cudaStream_t stream);
void swap_in(std::span<const MemOp> swaps, const KvPool& device, const HostPool& host,
             const Staging& staging, cudaStream_t stream);

// The whole plan on one stream: level after level, copies, swaps out, swaps in.
void run_mem_plan(const LevelledPlan& plan, const KvPool& device, const HostPool& host,
                  const Staging& staging, cudaStream_t stream);

// The paper's way (Section 7.3, Fig. 19a): a copy of its own for every block, layer and K or V, to
// a host pool laid out like the device's. Swaps of either direction, in order.
void swap_block_by_block(std::span<const MemOp> swaps, int block_tokens, const KvPool& device,
                         const KvPool& host, cudaStream_t stream);

}  // namespace kvstow::kernels::cuda
