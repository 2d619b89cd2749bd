// What the host does while a run goes on: a range for Nsight Systems per stage, and the time spent.
// At any moment the host is in exactly one stage, so that the stages of a step add up to the step;
// a change of stage reads the clock once.
#pragma once

#include <array>
#include <cstdint>
#include <vector>

#include "core/types.h"

namespace kvstow {

enum class HostStage : std::uint8_t {
  engine,  // the loop itself: arrivals, books, the waste ledger
  // domain engine; payload: the step's index
  schedule,
  submit,
  wait,
  settle,
  // domain allocator; payload: tokens for admit and grow, otherwise sequences
  admit,
  grow,
  reorder,
  swap_out,
  swap_in,
  release,
  // domain kernels; payload: rows, for the plan its operations
  plan,
  upload,
  launch_graph,
  forward,  // launches one by one
};
inline constexpr std::size_t kHostStages = static_cast<std::size_t>(HostStage::forward) + 1;

// Seconds by stage, from one call of the scheduler to the next.
using HostStep = std::array<Seconds, kHostStages>;

class HostProfile {
 public:
  HostProfile();

  // Within `profile`, or nowhere where there is none.
  class Range {
   public:
    Range(HostProfile* profile, HostStage stage, std::int64_t payload) : profile_(profile) {
      if (profile_ != nullptr) outer_ = profile_->enter(stage, payload);
    }
    ~Range() {
      if (profile_ != nullptr) profile_->leave(outer_);
    }
    Range(const Range&) = delete;
    Range& operator=(const Range&) = delete;

   private:
    HostProfile* profile_;
    HostStage outer_ = HostStage::engine;
  };

  // What follows belongs to the next step.
  void begin_step();
  // Of every step begun; the last one is closed by this call.
  [[nodiscard]] std::vector<HostStep> take();

 private:
  HostStage enter(HostStage, std::int64_t payload);
  void leave(HostStage outer);
  void account();

  HostStage stage_ = HostStage::engine;
  Seconds since_;
  std::vector<HostStep> steps_;
};

}  // namespace kvstow
