// How beams of a step are chosen: the device finds each row's candidates, only they go to the host,
// and the host decides who survives.
#pragma once

#include <cuda_runtime_api.h>

#include <cstdint>
#include <vector>

#include "core/exec/cuda/memory.h"
#include "core/exec/rows/token_histories.h"
#include "core/exec/step.h"
#include "kernels/cuda/beam_candidates.h"

namespace kvstow {

// Of one step at a time: who runs it waits for its tokens before the next step has beams.
class BeamDraws {
 public:
  // Of at most so many rows.
  explicit BeamDraws(int most_rows) : most_rows_(static_cast<std::size_t>(most_rows)) {}

  void begin_step() { stride_ = 0; }
  // The step draws for a group of so many beams.
  void add(int width);
  [[nodiscard]] bool any() const { return stride_ > 0; }

  // Puts the search for the candidates into the stream; where they go is ours. Throws InputError
  // where beams are too many, or memory too short.
  void find(kernels::cuda::BeamCandidatesArgs, cudaStream_t);

  // When that has ended: what the group draws, whose first row is number `first`.
  void choose(const StepGroup&, int first, int rows, int vocab, TokenHistories&,
              std::vector<TokenOut>& out) const;

 private:
  std::size_t most_rows_;
  int stride_ = 0;  // 0: no beams
  // kernels/cuda/beam_candidates.h has the shapes.
  PinnedBuffer<double> log_sum_;
  PinnedBuffer<std::int32_t> token_;
  PinnedBuffer<float> logit_;
};

}  // namespace kvstow
