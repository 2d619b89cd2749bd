#include "core/exec/cuda/beam_draws.h"

#include <algorithm>
#include <cmath>
#include <string>

#include "core/check.h"
#include "core/exec/rows/group_draw.h"

namespace kvstow {

void BeamDraws::add(int width) {
  stride_ = std::max(stride_, width);
}

void BeamDraws::find(kernels::cuda::BeamCandidatesArgs args, cudaStream_t stream) {
  if (stride_ > kernels::cuda::kMostCandidates) {
    throw InputError("beams of more than " + std::to_string(kernels::cuda::kMostCandidates) +
                     " cannot run on a GPU");
  }
  KVSTOW_CHECK(static_cast<std::size_t>(args.rows) <= most_rows_,
               "a step draws for more beams than there is room for");
  const std::size_t room = most_rows_ * static_cast<std::size_t>(stride_);
  if (token_.size() < room) {
    log_sum_ = {most_rows_, "the beams' candidates"};
    token_ = {room, "the beams' candidates"};
    logit_ = {room, "the beams' candidates"};
  }
  args.stride = stride_;
  args.log_sum = log_sum_.get();
  args.token = token_.get();
  args.logit = logit_.get();
  kernels::cuda::beam_candidates(args, stream);
}

void BeamDraws::choose(const StepGroup& group, int first, int rows, int vocab,
                       TokenHistories& histories, std::vector<TokenOut>& out) const {
  const std::int64_t place = std::int64_t{first} * stride_;
  const BeamCandidates candidates{.rows = one_history(group) ? 1 : rows,
                                  .count = std::min(group.request->decoding.width, vocab),
                                  .stride = stride_,
                                  .log_sum = log_sum_.get() + first,
                                  .token = token_.get() + place,
                                  .logit = logit_.get() + place};
  check_finite(std::none_of(candidates.log_sum, candidates.log_sum + rows,
                            [](double sum) { return std::isnan(sum); }));
  draw_beams(group, candidates, histories, out);
}

}  // namespace kvstow
