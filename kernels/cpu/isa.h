// The inner bodies that are compiled once per instruction set, and the choice between them at run
// time: one binary uses AVX-512 or AVX2 + FMA where the machine has them and runs everywhere.
// Bits differ between instruction sets; within one they depend on the row alone.
#pragma once

#include <cstdint>
#include <span>

namespace kvstow::kernels::cpu {

// Columns of one weight panel; see pack_weight in kernels/cpu/cpu.h.
inline constexpr int kPanel = 64;

// Running softmax of one query vector over the chunks folded so far.
struct AttentionState {
  float max;
  float sum;
  float* acc;  // [head_dim]
};

struct Isa {
  const char* name;

  int max_tile_rows;  // largest `rows` of linear_tile; every smaller count is allowed, too
  // y[r][c] = sum over k, in order, of x[k * rows + r] * panel[k * 64 + c], for 64 columns.
  void (*linear_tile)(int rows, int in, const float* x, const float* panel, float* y);

  // Attends q to n <= 128 positions of one chunk, position t at element offset[t] of k and v, from
  // a fresh state, and folds the result into `state` (or starts it, if `first`).
  void (*attend_chunk)(const float* q, const float* k, const float* v, const std::int64_t* offset,
                       int n, int head_dim, float scale, bool first, AttentionState& state);
};

// The best for this machine; KVSTOW_ISA=portable|avx2|avx512 in the environment asks for less.
// Throws InputError where the machine has none of that name.
const Isa& isa();
// All that this machine can run, best first (tests run each).
std::span<const Isa* const> available_isas();

}  // namespace kvstow::kernels::cpu
