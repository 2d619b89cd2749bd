// The engine's own checks, each with what it is there for, and what it reports of a group of
// sequences.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "core/check.h"
#include "core/kv/failing_allocator.h"
#include "core/kv/paged_allocator.h"
#include "tests/engine/engine_fixture.h"

namespace kvstow {
namespace {

using testing::HasSubstr;

const PoolConfig kPool{.device_slots = Tokens(64),
                       .host_slots = Tokens(64),
                       .block_tokens = Tokens(4),
                       .max_sequence = Tokens(64)};

// Every step takes a second; a sequence's hash is its id.
class HashingExecutor final : public Executor {
 public:
  void submit(const Step&) override {}
  StepResult wait() override { return {.elapsed = 1}; }
  [[nodiscard]] std::uint64_t token_hash(SeqId seq) const override { return seq.index() + 1; }
};

KeepingSink run(KvAllocator& allocator, Scheduler& scheduler, SeqIds& ids,
                std::vector<Arrival> arrivals) {
  ListTrace trace(std::move(arrivals));
  HashingExecutor executor;
  SimulatedClock clock;
  KeepingSink sink;
  Engine({trace, scheduler, allocator, executor, clock, sink, ids}).run();
  return sink;
}

KeepingSink run(KvAllocator& allocator, std::vector<Arrival> arrivals,
                const IterationConfig& config = Laboratory{}.iteration) {
  SeqIds ids;
  IterationScheduler scheduler(config, allocator, ids);
  return run(allocator, scheduler, ids, std::move(arrivals));
}

std::string error_of(KvAllocator& allocator) {
  try {
    run(allocator, {{.prompt = 5, .output = 3}});
  } catch (const InvariantError& error) {
    return error.what();
  }
  return "no error";
}

class Leaking final : public ForwardingAllocator {
 public:
  using ForwardingAllocator::ForwardingAllocator;
  void release(SeqId, MemPlan&) override {}
};

class Miscounting final : public ForwardingAllocator {
 public:
  using ForwardingAllocator::ForwardingAllocator;
  [[nodiscard]] KvStats stats(Tier tier) const override {
    KvStats stats = ForwardingAllocator::stats(tier);
    if (stats.held > Tokens(0)) ++stats.live;
    return stats;
  }
};

class Idle final : public Scheduler {
 public:
  [[nodiscard]] bool add(SequenceGroup&) override { return true; }
  void schedule(Step&) override {}
  void complete(std::vector<SequenceGroup*>&) override {}
  [[nodiscard]] std::span<SequenceGroup* const> resident() const override { return {}; }
  [[nodiscard]] std::span<SequenceGroup* const> preempted() const override { return {}; }
  [[nodiscard]] QueueLengths queues() const override { return {}; }
};

TEST(EngineChecks, ASlotThatNobodyGivesBackIsFound) {
  Leaking leaking(std::make_unique<PagedAllocator>(kPool));
  EXPECT_THAT(error_of(leaking), HasSubstr("slots leaked"));
}

TEST(EngineChecks, ALedgerThatDoesNotCloseIsFound) {
  Miscounting miscounting(std::make_unique<PagedAllocator>(kPool));
  EXPECT_THAT(error_of(miscounting), HasSubstr("the waste ledger does not close"));
}

TEST(EngineChecks, ASchedulerThatStandsStillIsFound) {
  PagedAllocator allocator(kPool);
  Idle idle;
  SeqIds ids;
  EXPECT_THROW(run(allocator, idle, ids, {{.prompt = 5, .output = 3}}), InvariantError);
}

// More than was expected is filled all the same: what is held for it is reserved, not negative
// waste.
TEST(EngineChecks, TheLedgerOfAnEstimateThatIsTooLow) {
  PagedAllocator allocator(kPool);
  IterationConfig config = Laboratory{}.iteration;
  config.estimate = [](const Request&, Tokens) { return Tokens(1); };
  const KeepingSink sink = run(allocator, {{.prompt = 5, .output = 6}}, config);
  const LedgerRow& first = sink.steps.front().device;  // two blocks, five tokens in them
  EXPECT_EQ(first.live, Tokens(5));
  EXPECT_EQ(first.reserved, Tokens(3));
  EXPECT_EQ(first.internal, Tokens(0));
  EXPECT_EQ(first.rounding, Tokens(0));
}

// A refusal, and under swapping two (no room to grow, then none to swap out), wherever it comes but
// in an empty pool: everybody is served all the same.
TEST(Engine, OutlivesAnAllocatorThatRefuses) {
  for (const Preemption preemption : {Preemption::recompute, Preemption::swap}) {
    IterationConfig config = Laboratory{}.iteration;
    config.preemption = preemption;
    const int refusals = preemption == Preemption::swap ? 2 : 1;
    for (int skip = 1; skip < 20; ++skip) {
      FailingAllocator allocator(
          std::make_unique<CheckedAllocator>(std::make_unique<PagedAllocator>(kPool)));
      allocator.fail(skip, refusals, AllocStatus::no_memory);
      const KeepingSink sink = run(allocator,
                                   {{.prompt = 5, .output = 8},
                                    {.prompt = 6, .output = 8},
                                    {.arrival = 3, .prompt = 7, .output = 8}},
                                   config);
      EXPECT_EQ(allocator.failures(), refusals) << skip;
      EXPECT_EQ(sink.requests.size(), 3U) << skip;
      for (const RequestEvent& event : sink.requests) EXPECT_FALSE(event.rejected) << skip;
      allocator.check_invariants(CheckLevel::full);
    }
  }
}

TEST(WallClock, WaitsUntilItsTime) {
  WallClock clock;
  clock.wait_until(0.02);
  EXPECT_GE(clock.now(), 0.02);
}

TEST(EngineReports, EverySequenceOfAGroup) {
  PagedAllocator allocator(kPool);
  const KeepingSink sink =
      run(allocator, {{.prompt = 5, .output = 3, .decoding = {DecodingKind::parallel, 2}},
                      {.prompt = 5, .output = 3}});
  ASSERT_EQ(sink.requests.size(), 2U);
  EXPECT_EQ(sink.requests[0].sequences, 2);
  EXPECT_EQ(sink.requests[0].token_hash, 1 * 0x100000001b3ULL ^ 2);  // FNV's prime, in their order
  EXPECT_EQ(sink.requests[1].token_hash, 3U);
  // Two gaps of each of the three sequences.
  EXPECT_EQ(sink.gaps, (std::vector<std::pair<Seconds, std::int64_t>>{{1, 3}, {1, 3}}));
}

}  // namespace
}  // namespace kvstow
