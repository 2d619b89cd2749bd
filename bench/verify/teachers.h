// Teacher forcing: a reference run draws and remembers; every other run is led along the same
// tokens and its logits are compared, row by row, so that a difference in a last bit does not grow
// into another text.
#pragma once

#include <vector>

#include "core/exec/rows/computing_executor.h"
#include "core/exec/rows/sampling.h"

namespace kvstow {

// What one group drew at one output position.
struct RememberedDraw {
  struct Choice {
    std::size_t parent;  // index in the group
    std::int32_t token;
    float logprob;
  };
  std::vector<float> logits;  // one row for each sequence, or one while they share a history
  std::vector<Choice> choices;
};

// By request, then by output position.
using RememberedDraws = std::vector<std::vector<RememberedDraw>>;

// Draws as an executor does by itself.
class ReferenceTeacher final : public Teacher {
 public:
  ReferenceTeacher(std::size_t requests, const SamplingConfig& sampling, std::uint64_t seed)
      : sampling_(sampling), seed_(seed), draws_(requests) {}
  void draw(const StepGroup&, std::span<const float> logits, int vocab, TokenHistories&,
            std::vector<TokenOut>& out) override;
  [[nodiscard]] RememberedDraws take() { return std::move(draws_); }

 private:
  SamplingConfig sampling_;
  std::uint64_t seed_;
  RememberedDraws draws_;
};

// How far the logits of a run are from the reference's: relative L2 of a row.
struct LogitsVerdict {
  double tolerance = 0;
  std::int64_t rows = 0;
  double largest = 0;
  std::int64_t beyond = 0;  // rows beyond the tolerance
  struct Place {
    RequestId request;
    std::size_t sample = 0;
    Tokens position{0};
    double error = 0;
  };
  Place first;  // the first row beyond the tolerance
};

class ForcingTeacher final : public Teacher {
 public:
  ForcingTeacher(const RememberedDraws& reference, double tolerance)
      : reference_(reference), beyond_(reference.size()), verdict_{.tolerance = tolerance} {}
  void draw(const StepGroup&, std::span<const float> logits, int vocab, TokenHistories&,
            std::vector<TokenOut>& out) override;

  [[nodiscard]] const LogitsVerdict& verdict() const { return verdict_; }
  // Whether a row of the request was beyond the tolerance.
  [[nodiscard]] bool beyond(RequestId request) const { return beyond_[request.index()]; }

 private:
  void compare(const StepGroup&, std::size_t sample, std::span<const float> found,
               std::span<const float> expected);

  const RememberedDraws& reference_;
  std::vector<bool> beyond_;  // by request
  LogitsVerdict verdict_;
};

}  // namespace kvstow
