// The arithmetic of an attribution: what is subtracted, what is scaled, what stays unexplained.
#include "bench/experiment/attribution.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "core/check.h"

namespace kvstow {
namespace {

constexpr Seconds kUs = 1e-6;

std::size_t at(LaunchClass kind) {
  return static_cast<std::size_t>(kind);
}

// Two classes and copies; an empty stretch takes 1 us.
DeviceStep marked_step(Seconds attention, Seconds linear) {
  DeviceStep step{.graph = true, .idle = 9 * kUs, .device = 500 * kUs};
  step.launches.copies = 2 * kUs;
  step.launches.start = 3 * kUs;
  step.launches.mark = 1 * kUs;
  step.launches.of_class[at(LaunchClass::attention)] = attention;
  step.launches.stretches[at(LaunchClass::attention)] = 4;
  step.launches.of_class[at(LaunchClass::linear)] = linear;
  step.launches.stretches[at(LaunchClass::linear)] = 5;
  return step;
}

HostStep host_step(Seconds schedule, Seconds grow, Seconds admit, Seconds wait) {
  HostStep step{};
  step[static_cast<std::size_t>(HostStage::schedule)] = schedule;
  step[static_cast<std::size_t>(HostStage::grow)] = grow;
  step[static_cast<std::size_t>(HostStage::admit)] = admit;
  step[static_cast<std::size_t>(HostStage::wait)] = wait;
  return step;
}

Seconds part(const std::vector<TimePart>& parts, const std::string& name) {
  for (const TimePart& p : parts) {
    if (p.name == name) return p.time;
  }
  ADD_FAILURE() << "no part " << name;
  return 0;
}

// Every step measured: 200 us, of which the device does not work on the step for 6.
std::vector<DeviceStep> measured(std::size_t count) {
  return std::vector<DeviceStep>(count, {.graph = true, .idle = 6 * kUs, .device = 194 * kUs});
}

TEST(Attribution, SubtractsTheMarksAndLeavesTheRestUnexplained) {
  const std::vector<DeviceStep> plain = measured(4);
  const std::vector<HostStep> host(4, host_step(10 * kUs, 20 * kUs, 5 * kUs, 150 * kUs));
  const std::vector<DeviceStep> marked = {
      marked_step(99 * kUs, 99 * kUs), marked_step(99 * kUs, 99 * kUs),
      marked_step(104 * kUs, 75 * kUs), marked_step(64 * kUs, 55 * kUs)};
  const Attribution a = attribute(plain, host, marked);
  EXPECT_EQ(a.steps, 2);  // the first two follow fewer than two others
  EXPECT_NEAR(a.step, 200 * kUs, 1e-12);
  EXPECT_NEAR(a.mark, 1 * kUs, 1e-12);
  EXPECT_EQ(a.scale, 1);
  EXPECT_NEAR(part(a.device, "attention"), 80 * kUs, 1e-12);  // (104 + 64) / 2 - 4
  EXPECT_NEAR(part(a.device, "linear"), 60 * kUs, 1e-12);     // (75 + 55) / 2 - 5
  EXPECT_NEAR(part(a.device, "copies"), 2 * kUs, 1e-12);
  EXPECT_NEAR(part(a.device, "table upload"), 3 * kUs, 1e-12);
  EXPECT_NEAR(part(a.device, "idle"), 1 * kUs, 1e-12);  // 6 - 2 - 3
  EXPECT_EQ(part(a.device, "norm"), 0);
  EXPECT_NEAR(a.device_unexplained, 54 * kUs, 1e-12);
  EXPECT_NEAR(part(a.host, "scheduler"), 10 * kUs, 1e-12);
  EXPECT_NEAR(part(a.host, "allocator"), 25 * kUs, 1e-12);
  EXPECT_NEAR(a.host_unexplained, 15 * kUs, 1e-12);
}

TEST(Attribution, ScalesDownToTheMeasuredStepAndNeverUp) {
  const std::vector<DeviceStep> plain = measured(3);
  const std::vector<HostStep> host(3);
  const std::vector<DeviceStep> marked(3, marked_step(292 * kUs, 105 * kUs));  // 288 + 100
  const Attribution a = attribute(plain, host, marked);
  EXPECT_NEAR(a.scale, 0.5, 1e-9);
  EXPECT_NEAR(part(a.device, "attention"), 144 * kUs, 1e-12);
  EXPECT_NEAR(part(a.device, "idle"), 1 * kUs, 1e-12);  // measured, not scaled
  EXPECT_NEAR(a.device_unexplained, 0, 1e-12);
}

TEST(Attribution, PromptsAreLeftOut) {
  std::vector<DeviceStep> plain = measured(5);
  // 2 follows a prompt; in 3 the host waits for it; 4 is a graph's all over.
  plain[1] = {.graph = false, .idle = 1, .device = 1};
  std::vector<HostStep> host(5, host_step(1, 1, 1, 1));
  host[4] = host_step(10 * kUs, 0, 0, 0);
  std::vector<DeviceStep> marked(5, marked_step(1, 1));
  marked[1].graph = false;
  marked[4] = marked_step(44 * kUs, 5 * kUs);
  const Attribution a = attribute(plain, host, marked);
  EXPECT_EQ(a.steps, 1);
  EXPECT_NEAR(a.step, 200 * kUs, 1e-12);
  EXPECT_NEAR(part(a.device, "attention"), 40 * kUs, 1e-12);
  EXPECT_NEAR(part(a.host, "scheduler"), 10 * kUs, 1e-12);
}

TEST(Attribution, TheRowsPartsAddUpToTheStep) {
  const std::vector<HostStep> host(3, host_step(10 * kUs, 20 * kUs, 5 * kUs, 150 * kUs));
  const std::vector<DeviceStep> marked(3, marked_step(104 * kUs, 75 * kUs));
  const nlohmann::json row = attribution_json(attribute(measured(3), host, marked));
  for (const char* const side : {"device_us", "host_us"}) {
    double sum = 0;
    for (const auto& [name, us] : row.at(side).items()) sum += us.get<double>();
    EXPECT_NEAR(sum, row.at("step_us").get<double>(), 1e-6) << side;
  }
  EXPECT_THAT(attribution_text(row), testing::HasSubstr("attention         100.0 us   50.0 %"));
}

TEST(Attribution, WithoutGraphsThereIsNothingToSay) {
  const std::vector<DeviceStep> plain(2);
  const Attribution a = attribute(plain, std::vector<HostStep>(2), plain);
  EXPECT_EQ(a.steps, 0);
  EXPECT_EQ(a.step, 0);
  EXPECT_EQ(a.device_unexplained, 0);
  EXPECT_THROW((void)attribute(plain, {}, plain), InvariantError);
}

}  // namespace
}  // namespace kvstow
