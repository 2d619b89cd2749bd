// Profiling a run changes nothing in it, and every moment of the host is in one stage of one step.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <chrono>
#include <numeric>

#include "tests/engine/engine_fixture.h"

namespace kvstow {
namespace {

// Two requests that outgrow the pool together: one is swapped out and comes back.
const std::vector<Arrival> kCrowded = {{.prompt = 8, .output = 12}, {.prompt = 8, .output = 12}};

Laboratory crowded(bool profiled) {
  Laboratory laboratory;
  laboratory.iteration.preemption = Preemption::swap;
  laboratory.profiled = profiled;
  return laboratory;
}

Seconds total(const std::vector<HostStep>& steps, HostStage stage) {
  Seconds sum = 0;
  for (const HostStep& step : steps) sum += step[static_cast<std::size_t>(stage)];
  return sum;
}

TEST(HostProfile, ChangesNoStep) {
  const Played plain = crowded(false).play(kCrowded);
  const Played profiled = crowded(true).play(kCrowded);
  EXPECT_EQ(plain.lines, profiled.lines);
  EXPECT_TRUE(plain.host.empty());
  EXPECT_EQ(profiled.host.size(), profiled.lines.size());
}

TEST(HostProfile, EveryMomentIsInOneStage) {
  const auto begin = std::chrono::steady_clock::now();
  const Played played = crowded(true).play(kCrowded);
  const Seconds elapsed =
      std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
  Seconds sum = 0;
  for (const HostStep& step : played.host) {
    sum = std::accumulate(step.begin(), step.end(), sum);
    EXPECT_GT(step[static_cast<std::size_t>(HostStage::schedule)], 0);
  }
  EXPECT_LE(sum, elapsed);
  for (const HostStage used :
       {HostStage::engine, HostStage::submit, HostStage::wait, HostStage::settle, HostStage::admit,
        HostStage::grow, HostStage::swap_out, HostStage::swap_in, HostStage::release}) {
    EXPECT_GT(total(played.host, used), 0) << static_cast<int>(used);
  }
  EXPECT_EQ(total(played.host, HostStage::reorder), 0);
  EXPECT_EQ(total(played.host, HostStage::launch_graph), 0);
}

TEST(HostProfile, AnInnerStageInterruptsTheOuterOne) {
  HostProfile profile;
  profile.begin_step();
  {
    const HostProfile::Range outer(&profile, HostStage::schedule, 0);
    const HostProfile::Range inner(&profile, HostStage::grow, 17);
  }
  profile.begin_step();
  const HostProfile::Range nowhere(nullptr, HostStage::submit, 0);
  const std::vector<HostStep> steps = profile.take();
  ASSERT_EQ(steps.size(), 2U);
  EXPECT_GT(steps[0][static_cast<std::size_t>(HostStage::grow)], 0);
  EXPECT_GT(steps[0][static_cast<std::size_t>(HostStage::schedule)], 0);
  EXPECT_EQ(total(steps, HostStage::submit), 0);
}

}  // namespace
}  // namespace kvstow
