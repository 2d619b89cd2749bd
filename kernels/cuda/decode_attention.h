// Decode attention on the GPU: DecodeAttentionArgs of kernels/kernels.h with device pointers,
// dtype f16 or bf16 (pool, q and out alike), head_dim 64, 80, 96, 128 or 256.
//
// A step plans once and then runs every layer:
//   DecodeSchedule s = decode_schedule(max_rows, max_length, heads, layout, device_blocks());
//   allocate s.workspace_bytes;
//   plan_decode_attention(s, map_row, length, rows, workspace, stream);
//   for each layer: decode_attention(args, s, workspace, stream, Dependent::yes);
// All of it can be captured in a CUDA graph: the grid is fixed by the schedule, lengths, map rows
// and tables are read on the device. One workspace serves one stream at a time.
//
// Programmatic dependent launch (Dependent::yes) lets a kernel start under its predecessor's tail.
// Before the predecessor has finished it reads the plan, the map and the K/V of slots below
// stable_length, so no kernel of the step may write those; q and the rest it reads afterwards.
#pragma once

#include <cuda_runtime_api.h>

#include "kernels/cuda/decode_plan.h"
#include "kernels/cuda/dependent.h"
#include "kernels/kernels.h"

namespace kvstow::kernels::cuda {

// Two launches at once on streams of their own, each with one block on every multiprocessor. Left
// alone the hardware would put two blocks of one launch on every second one. So the first asks for
// a little more than half of a multiprocessor's shared memory and the second for a little less: one
// of each fits, two of the first do not, and where the first has its blocks the second finds one
// place.
enum class DecodeShare : std::uint8_t { all, first, second };

struct DecodeSchedule {
  int max_rows;
  int heads;
  int kv_heads;
  int head_dim;
  DecodeRoom room;
  std::int64_t workspace_bytes;
  DecodeShare share;
};

// Whether a body's blocks leave room for another's.
[[nodiscard]] bool decode_can_share(const KvLayout& layout);

// Multiprocessors of the current device.
int device_blocks();

// blocks: multiprocessors to use, at most those there are. REQUIRES: share all, or
// decode_can_share().
DecodeSchedule decode_schedule(int max_rows, int max_length, int heads, const KvLayout& layout,
                               int blocks, DecodeShare share = DecodeShare::all);

// Deals the step's work to the blocks. map_row, length: [rows] on the device, rows <= max_rows, the
// same as decode_attention gets.
void plan_decode_attention(const DecodeSchedule&, const std::int32_t* map_row,
                           const std::int32_t* length, int rows, void* workspace,
                           cudaStream_t stream);

// Throws CudaError (a failed launch) or std::invalid_argument (a shape there is no body for).
template <class Map>
void decode_attention(const DecodeAttentionArgs<Map>&, const DecodeSchedule&, void* workspace,
                      cudaStream_t stream, Dependent dependent = Dependent::no);

}  // namespace kvstow::kernels::cuda
