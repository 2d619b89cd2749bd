// What a beam step needs of its logits (core/exec/rows/beam_step.h): each row's normaliser and its
// likeliest tokens, best first, ties to the smaller token. Only they go to the host.
#pragma once

#include <cuda_runtime_api.h>

#include <cstdint>

#include "kernels/cuda/dependent.h"
#include "kernels/cuda/sampling.h"

namespace kvstow::kernels::cuda {

inline constexpr int kMostCandidates = 1024;

struct BeamCandidatesArgs {
  int rows;
  int vocab;                   // at most 262144
  const float* logits;         // [rows, vocab], 16-byte aligned, rows logits_stride elements apart
  std::int64_t logits_stride;  // a multiple of 8
  const SamplingRow* row;      // [rows]; nothing is done where no candidates are wanted
  int stride;           // of token and logit, at least the most candidates that any row wants
  double* log_sum;      // [rows] log(sum(exp(logits))), within 1e-6; NaN where one is not finite
  std::int32_t* token;  // [rows, stride]; where the vocabulary is smaller, the rest stays as it is
  float* logit;         // [rows, stride]
  // As in sampling; null: not wanted.
  std::uint64_t* ended = nullptr;
  std::uint32_t* rows_done = nullptr;
};

void beam_candidates(const BeamCandidatesArgs&, cudaStream_t stream,
                     Dependent dependent = Dependent::no);

}  // namespace kvstow::kernels::cuda
