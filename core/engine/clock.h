// Time is injected: a simulated clock moves by what steps cost, a wall clock moves by itself.
#pragma once

#include <chrono>
#include <thread>

#include "core/types.h"

namespace kvstow {

class Clock {
 public:
  virtual ~Clock() = default;
  [[nodiscard]] virtual Seconds now() const = 0;
  virtual void step_took(Seconds elapsed) = 0;  // a step that cost `elapsed` is over
  virtual void wait_until(Seconds time) = 0;    // nothing to do before `time`
};

class SimulatedClock final : public Clock {
 public:
  [[nodiscard]] Seconds now() const override { return now_; }
  void step_took(Seconds elapsed) override { now_ += elapsed; }
  void wait_until(Seconds time) override { now_ = now_ < time ? time : now_; }

 private:
  Seconds now_ = 0;
};

class WallClock final : public Clock {
 public:
  [[nodiscard]] Seconds now() const override {
    return std::chrono::duration<double>(std::chrono::steady_clock::now() - start_).count();
  }
  void step_took(Seconds) override {}
  void wait_until(Seconds time) override {
    std::this_thread::sleep_until(start_ +
                                  std::chrono::duration_cast<std::chrono::steady_clock::duration>(
                                      std::chrono::duration<double>(time)));
  }

 private:
  std::chrono::steady_clock::time_point start_ = std::chrono::steady_clock::now();
};

}  // namespace kvstow
