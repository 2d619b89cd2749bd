// The contract of every kernel: argument structs with the shapes beside the pointers. Three
// backends take the same structs and promise the same results up to the rounding of their dtype:
//   kernels/reference/reference.h  reference::f(args)              slow and obvious; the oracle
//   kernels/cpu/cpu.h              cpu::f(args, ThreadPool&)       vectorised, threaded
//   kernels/cuda/                  cuda::f(args, stream)           the same fields, device pointers
//
// Identity. A row's result depends on that row alone: never on the other rows, their number, the
// number of threads or the map. Linear layers and norms add in one order per row; attention is cut
// at absolute positions into chunks of kAttentionChunk tokens, each from a fresh (max, sum,
// accumulator), folded left to right. So a memory manager cannot change a token except by a bug.
//
// Pointers are `const void*` where a backend chooses the element type; `dtype` names it. CPU and
// reference kernels take f32 everywhere. Rows are contiguous vectors, `*_stride` elements apart.
#pragma once

#include <cstdint>

#include "core/kv/mem_plan.h"
#include "kernels/kv_cache.h"

namespace kvstow::kernels {

// Absolute positions [c * 128, (c + 1) * 128) are one chunk of every attention kernel.
inline constexpr int kAttentionChunk = 128;

// K and V of every layer in one allocation.
struct KvPool {
  void* data;  // [layers][K|V][slots][kv_heads][head_dim]
  KvLayout layout;
};

// Puts the new K and V of some rows (heads side by side, as the QKV projection leaves them) into
// their slots: reshape and write in one pass.
struct WriteKvArgs {
  KvPool pool;
  int layer;
  int rows;
  const void* k;  // [rows, kv_heads * head_dim]
  const void* v;  // likewise
  std::int64_t k_stride;
  std::int64_t v_stride;
  const std::int64_t* slots;  // [rows]; -1 writes nothing (padding)
  DType dtype;                // of k and v; the pool has its own
};

// One query position per row. Rows, not sequences: several rows may share one map row, each with
// its own length (generated tokens recomputed after a preemption). Query head h reads K/V head
// h / (heads / kv_heads).
template <class Map>
struct DecodeAttentionArgs {
  KvPool pool;
  int layer;
  Map map;
  int rows;
  int heads;      // query heads, a multiple of layout.kv_heads
  const void* q;  // [rows, heads * head_dim]
  std::int64_t q_stride;
  void* out;  // [rows, heads * head_dim]
  std::int64_t out_stride;
  const std::int32_t* map_row;  // [rows]
  const std::int32_t* length;   // [rows] positions read, the new token's included; 0 gives zeros
  const std::int32_t* stable_length;  // [rows] slots written before this step; may be null. A GPU
                                      // may read those before the writes of this step are visible
  float scale;                        // of q . k, usually 1 / sqrt(head_dim)
  DType dtype;                        // of q and out
};

// Ragged, causal: query row i of sequence s (row_begin[s] <= i < row_begin[s + 1]) is at position
// first[s] + i - row_begin[s] and reads that position and every one before it from the cache, its
// own K and V included (written before).
template <class Map>
struct PrefillAttentionArgs {
  KvPool pool;
  int layer;
  Map map;
  int sequences;
  int heads;
  const void* q;  // [row_begin[sequences], heads * head_dim]
  std::int64_t q_stride;
  void* out;  // same shape as q
  std::int64_t out_stride;
  const std::int32_t* row_begin;  // [sequences + 1], non-decreasing, row_begin[0] = 0
  const std::int32_t* map_row;    // [sequences]
  const std::int32_t* first;      // [sequences] position of the first query row
  float scale;
  DType dtype;
};

// Carries a MemPlan out in order: every slot of every layer, K and V. Both pools have the same
// layers, heads, head_dim and dtype; their slot counts differ. Frees move nothing.
struct MemPlanArgs {
  const MemOp* ops;
  std::int64_t count;
  KvPool device;
  KvPool host;  // may be empty (slots 0) where the plan has no swaps
};

// y = x W^T (+ bias) (+ residual). One summation order over `in` at every row count.
struct LinearArgs {
  int rows;
  int in;
  int out;
  const void* x;  // [rows, in]
  std::int64_t x_stride;
  const void* weight;    // [out, in] row-major; the CPU kernel takes cpu::pack_weight's form of it
  const void* bias;      // [out] or null
  const void* residual;  // [rows, out] or null; rows y_stride apart; may be y
  void* y;               // [rows, out]
  std::int64_t y_stride;
  DType dtype;
};

enum class NormKind : std::uint8_t { layer_norm, rms_norm };

// Over the last `width` elements of each row. A q/k norm is one with rows = tokens * heads.
//   layer_norm  (x - mean) / sqrt(var + epsilon) * weight + bias
//   rms_norm    x / sqrt(mean(x^2) + epsilon) * weight
struct NormArgs {
  NormKind kind;
  int rows;
  int segments;  // independent vectors side by side in a row (heads of a q/k norm; otherwise 1)
  int width;     // of one vector; a row holds segments * width elements
  const void* x;
  std::int64_t x_stride;
  const void* weight;  // [width]
  const void* bias;    // [width], layer_norm only
  void* y;             // may be x
  std::int64_t y_stride;
  float epsilon;
  DType dtype;
};

// Rotates the pairs (i, i + head_dim / 2) of every head in place ("rotate half", the form of the
// Hugging Face checkpoints).
struct RopeArgs {
  int rows;
  int heads;
  int head_dim;  // even
  void* x;       // [rows, heads * head_dim]
  std::int64_t x_stride;
  const std::int32_t* position;  // [rows]
  const float* cos;              // [positions, head_dim / 2]
  const float* sin;              // likewise
  DType dtype;
};

enum class ActivationKind : std::uint8_t {
  relu,      // y = max(x, 0)
  silu_mul,  // y = silu(gate) * up; a row of x is [gate | up], 2 * width elements
};

struct ActivationArgs {
  ActivationKind kind;
  int rows;
  int width;  // of y
  const void* x;
  std::int64_t x_stride;
  void* y;  // may be x
  std::int64_t y_stride;
  DType dtype;
};

// y = table[token] (+ position_table[position]).
struct EmbeddingArgs {
  int rows;
  int width;
  const std::int32_t* token;     // [rows]
  const void* table;             // [vocabulary, width]
  const std::int32_t* position;  // [rows]; read only with a position table
  const void* position_table;    // [positions, width] or null
  void* y;
  std::int64_t y_stride;
  DType dtype;
};

}  // namespace kvstow::kernels
