// From logits to tokens on the GPU: core/exec/rows/sampling.h's draw_token for a whole batch, with
// the same keyed random numbers (uniform_for) and the same order of ties, so that a step needs no
// logits on the host.
//
// Probabilities are summed as fixed-point integers, exp((x - largest) / temperature) * 2^31 each:
// exact and therefore the same in whatever order the threads come. Tokens below 2^-31 of the
// likeliest are never drawn. Where temperature is all there is, one pass does, in units of 2^-22 of
// the likeliest of 512 neighbours. Against the CPU's doubles a draw differs only where the random
// number falls within about 1e-6 of the boundary between two tokens.
#pragma once

#include <cuda_runtime_api.h>

#include <cstdint>

#include "kernels/cuda/dependent.h"
#include "kernels/kernels.h"

namespace kvstow::kernels::cuda {

// One draw: kvstow::SamplingConfig and the key of its random number.
struct SamplingRow {
  double temperature;  // 0: greedy
  double top_p;
  std::int32_t top_k;
  std::uint32_t request;
  std::uint32_t sample;
  std::int32_t output_position;
  std::int32_t candidates = 0;  // > 0: the host chooses from so many (beam_candidates.h); token 0
};

struct SamplingArgs {
  int rows;
  int vocab;                   // at most 262144
  const void* logits;          // [rows, vocab], 16-byte aligned, rows logits_stride elements apart
  std::int64_t logits_stride;  // a multiple of 8
  DType dtype;                 // any
  const SamplingRow* row;      // [rows]
  std::uint64_t seed;
  std::int32_t* token;  // [rows]; -1 where a logit is not finite (K or V nobody had written)
  float* logprob;       // [rows], under the unmodified distribution, NaN likewise; null: not wanted
  std::int32_t* next_token = nullptr;  // the tokens once more, for the next step; null: not wanted
  // When the last row was drawn (nanoseconds of the device's clock), and a counter of rows, 0
  // before and after; null: not wanted.
  std::uint64_t* ended = nullptr;
  std::uint32_t* rows_done = nullptr;
};

void sample_tokens(const SamplingArgs&, cudaStream_t stream, Dependent dependent = Dependent::no);

}  // namespace kvstow::kernels::cuda
