// Ordered plans: chains, cycles through a spare slot, reused extents, swaps both ways.
#include <gtest/gtest.h>

#include "core/check.h"
#include "kernels/cpu/cpu.h"
#include "kernels/reference/reference.h"
#include "tests/kernels/random_floats.h"
#include "tests/kernels/random_plan.h"

namespace kvstow::kernels {
namespace {

constexpr std::int64_t kDeviceSlots = 40;
constexpr std::int64_t kHostSlots = 24;

struct Pools {
  KvLayout device_layout{3, 2, 5, kDeviceSlots, DType::f32};
  KvLayout host_layout{3, 2, 5, kHostSlots, DType::f32};
  std::vector<float> device = random_floats(static_cast<std::size_t>(device_layout.elements()), 1);
  std::vector<float> host = random_floats(static_cast<std::size_t>(host_layout.elements()), 2);

  MemPlanArgs args(const MemPlan& plan) {
    return {plan.ops().data(),
            static_cast<std::int64_t>(plan.ops().size()),
            {device.data(), device_layout},
            {host.data(), host_layout}};
  }
};

TEST(MemPlan, RandomPlansMoveWhatTheReferenceMoves) {
  RandomStream random(5, "plans");
  cpu::ThreadPool threads(3);
  for (int round = 0; round < 50; ++round) {
    const MemPlan plan = random_plan(random, {kDeviceSlots, kHostSlots}, 30);
    Pools want;
    Pools got;
    reference::run_mem_plan(want.args(plan));
    cpu::run_mem_plan(got.args(plan), threads);
    ASSERT_EQ(got.device, want.device) << round;
    ASSERT_EQ(got.host, want.host) << round;
  }
}

TEST(MemPlan, RefusesToLeaveThePool) {
  cpu::ThreadPool threads(1);
  Pools pools;
  MemPlan plan;
  plan.copy(Slot(0), Slot(kDeviceSlots - 1), Tokens(2));
  EXPECT_THROW(cpu::run_mem_plan(pools.args(plan), threads), InvariantError);
  plan.clear();
  plan.swap_out(Slot(0), Slot(kHostSlots), Tokens(1));
  EXPECT_THROW(cpu::run_mem_plan(pools.args(plan), threads), InvariantError);
}

}  // namespace
}  // namespace kvstow::kernels
