// The waste ledger over long random runs: it closes at every step (the engine throws otherwise),
// and the pool is empty at the end.
#include <gtest/gtest.h>

#include "core/rng.h"
#include "tests/engine/engine_fixture.h"

namespace kvstow {
namespace {

std::vector<Arrival> mixed_trace(int requests, std::uint64_t seed) {
  RandomStream random(seed, "ledger-test");
  std::vector<Arrival> arrivals;
  Seconds now = 0;
  for (int i = 0; i < requests; ++i) {
    now += random.exponential();
    Arrival arrival{.arrival = now,
                    .prompt = 1 + static_cast<int>(random.below(30)),
                    .output = 1 + static_cast<int>(random.below(24))};
    const std::uint32_t kind = random.below(4);
    if (kind == 1)
      arrival.decoding = {DecodingKind::parallel, 2 + static_cast<int>(random.below(3))};
    if (kind == 2) arrival.decoding = {DecodingKind::beam, 2 + static_cast<int>(random.below(3))};
    if (kind == 3) {
      arrival.prefix_tokens = 7;
      arrival.prompt += 7;
    }
    arrivals.push_back(arrival);
  }
  return arrivals;
}

struct Case {
  const char* allocator;
  Preemption preemption;
  int block_tokens;
  int chunks_of = 0;  // tokens of an iteration, where prompts may take several
};

class LedgerCloses : public testing::TestWithParam<Case> {};

TEST_P(LedgerCloses, UnderMixedDecodingsAndConstantPreemption) {
  Laboratory laboratory;
  laboratory.allocator = GetParam().allocator;
  const bool paged = laboratory.allocator == "paged";
  laboratory.pool.device_slots = Tokens(420);
  laboratory.pool.host_slots = Tokens(840);
  laboratory.pool.block_tokens = laboratory.iteration.block_tokens =
      Tokens(GetParam().block_tokens);
  laboratory.iteration.max_sequences = 64;
  laboratory.iteration.preemption = GetParam().preemption;
  laboratory.iteration.share_prompt = paged;
  laboratory.iteration.prefix = paged ? PrefixSharing::copy_on_write : PrefixSharing::none;
  laboratory.beam_death = 0.2;
  if (GetParam().chunks_of > 0) {
    laboratory.iteration.chunked_prefill = true;
    laboratory.iteration.max_batched_tokens = Tokens(GetParam().chunks_of);
  }
  const Played played = laboratory.play(mixed_trace(400, 7));
  ASSERT_EQ(played.sink.requests.size(), 400U);
  std::int64_t preemptions = 0;
  for (const StepEvent& event : played.sink.steps) {
    EXPECT_EQ(event.device.sum(), Tokens(420));
    preemptions += event.preemptions;
  }
  EXPECT_EQ(preemptions > 0, paged);
  for (const RequestEvent& event : played.sink.requests) EXPECT_FALSE(event.rejected);
}

INSTANTIATE_TEST_SUITE_P(
    Allocators, LedgerCloses,
    testing::Values(Case{"paged", Preemption::recompute, 4}, Case{"paged", Preemption::swap, 4},
                    Case{"paged", Preemption::swap, 1}, Case{"paged", Preemption::swap, 7},
                    Case{"paged", Preemption::recompute, 4, 40},
                    Case{"paged", Preemption::swap, 7, 40}, Case{"buddy", Preemption::recompute, 4},
                    Case{"buddy", Preemption::recompute, 4, 40},
                    Case{"contiguous-first-fit", Preemption::recompute, 1},
                    Case{"contiguous-best-fit", Preemption::recompute, 1}));

}  // namespace
}  // namespace kvstow
