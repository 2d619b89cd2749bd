// Each planted bug must make verification fail, where the same system without it passes.
#include "tests/cpu/planted_faults.h"

#include <gtest/gtest.h>

#include "tests/cpu/verify_fixture.h"

namespace kvstow {
namespace {

using Wrap = std::unique_ptr<KvAllocator> (*)(std::unique_ptr<KvAllocator>, int* strikes);

template <class F>
std::unique_ptr<KvAllocator> plant(std::unique_ptr<KvAllocator> inner, int* strikes) {
  return std::make_unique<F>(std::move(inner), strikes);
}

struct Planted {
  const char* name;
  const char* allocator;
  Wrap wrap;
  Preemption preemption = Preemption::recompute;
  PrefixSharing prefix = PrefixSharing::none;
};

void PrintTo(const Planted& planted, std::ostream* out) {
  *out << planted.name;
}

VerifyArm arm_of(const Planted& planted) {
  VerifyArm arm = iteration_arm(planted.name, planted.allocator, 16, planted.preemption);
  std::get<IterationConfig>(arm.scheduler).prefix = planted.prefix;
  return arm;
}

class PlantedFaults : public ::testing::TestWithParam<Planted> {};

TEST_P(PlantedFaults, AreCaught) {
  static const std::vector<Request> trace = mixed_trace(18);
  static const ExecutorFactory model = tiny_model();
  static const TokenHashes reference = run_alone(trace, model);

  VerifyArm arm = arm_of(GetParam());
  const ArmVerdict clean = verify_arm(arm, trace, model, reference);
  EXPECT_TRUE(clean.ok()) << clean.error;
  EXPECT_EQ(clean.compared, std::ssize(trace));

  int strikes = 0;
  arm.decorate = [&](std::unique_ptr<KvAllocator> inner) {
    return GetParam().wrap(std::move(inner), &strikes);
  };
  const ArmVerdict faulty = verify_arm(arm, trace, model, reference);
  EXPECT_GT(strikes, 0) << "the fault never struck";
  EXPECT_FALSE(faulty.ok());
  EXPECT_NE(faulty.fault.find("in call"), std::string::npos) << faulty.error << faulty.fault;
}

TEST_P(PlantedFaults, AreCaughtWhereTokensAreForced) {
  static const std::vector<Request> trace = mixed_trace(18);
  static const ExecutorFactory model = tiny_model();
  static const RememberedDraws reference = run_reference(trace, model, kTinySampling, 1);

  VerifyArm arm = arm_of(GetParam());
  const ArmVerdict clean = verify_forced(arm, trace, model, reference, kTinyTolerance);
  EXPECT_TRUE(clean.ok()) << clean.error << clean.logits->largest;
  EXPECT_GT(clean.logits->rows, 0);

  int strikes = 0;
  arm.decorate = [&](std::unique_ptr<KvAllocator> inner) {
    return GetParam().wrap(std::move(inner), &strikes);
  };
  EXPECT_FALSE(verify_forced(arm, trace, model, reference, kTinyTolerance).ok());
  EXPECT_GT(strikes, 0) << "the fault never struck";
}

INSTANTIATE_TEST_SUITE_P(
    All, PlantedFaults,
    ::testing::Values(
        Planted{"NoCopyOnWrite", "paged", plant<NoCopyOnWrite>},
        Planted{"LostCopy", "paged", plant<LostOperation<MemOpKind::copy>>},
        Planted{"LostBeamCopy", "contiguous-best-fit", plant<LostOperation<MemOpKind::copy>>},
        Planted{"ShortCopy", "paged", plant<ShortCopy>},
        Planted{"CopiesOutOfOrder", "paged", plant<OutOfOrder>, Preemption::swap},
        Planted{"FreedTooEarly", "paged", plant<FreedTooEarly>},
        Planted{"WrongLastBlock", "paged", plant<WrongLastBlock>},
        Planted{"OffByOneSlot", "contiguous-first-fit", plant<OffByOneSlot>},
        Planted{"StaleTableAfterSwap", "paged", plant<StaleTableAfterSwap>, Preemption::swap},
        Planted{"LostSwapOut", "paged", plant<LostOperation<MemOpKind::swap_out>>,
                Preemption::swap},
        Planted{"LostSwapIn", "paged", plant<LostOperation<MemOpKind::swap_in>>, Preemption::swap},
        Planted{"SwapInToWrongBlocks", "paged",
                [](std::unique_ptr<KvAllocator> inner, int* strikes) {
                  return std::unique_ptr<KvAllocator>(
                      std::make_unique<SwapInToWrongBlocks>(std::move(inner), strikes, Tokens(16)));
                },
                Preemption::swap},
        Planted{"LeakedReference", "paged", plant<LeakedReference>},
        Planted{"WrongMerge", "buddy", plant<WrongMerge>},
        Planted{"LostFork", "paged", plant<LostFork>},
        Planted{"PrefixTooLong", "paged", plant<PrefixTooLong>, Preemption::recompute,
                PrefixSharing::whole_blocks}),
    [](const auto& each) { return std::string(each.param.name); });

}  // namespace
}  // namespace kvstow
