// The rules that a schedule shows only where memory, budget or prefix are just short. Steps are
// written as in scheduler_test.cpp; blocks hold four tokens.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "core/check.h"
#include "tests/engine/engine_fixture.h"

namespace kvstow {
namespace {

using testing::ElementsAre;

// Ten blocks, three of them the watermark: beside A's four B's four do not fit.
TEST(SchedulerRules, AnAdmissionLeavesTheWatermarkFree) {
  Laboratory laboratory;
  laboratory.pool.device_slots = Tokens(40);
  laboratory.iteration.keep_free = Tokens(12);
  const Played played = laboratory.play({{.prompt = 16, .output = 3}, {.prompt = 16, .output = 2}});
  EXPECT_THAT(played.lines, ElementsAre("A0+16", "A16", "A17", "B0+16", "B16"));
}

// C leaves with four blocks. When A has ended and B opened its fifth, seven of the twelve are free:
// C's four, one for its next token, and two, which have to be the watermark.
TEST(SchedulerRules, ASwapInLeavesTheWatermarkFree) {
  Laboratory laboratory;
  laboratory.pool.device_slots = Tokens(48);
  laboratory.iteration.preemption = Preemption::swap;
  const std::vector<Arrival> trace = {
      {.prompt = 12, .output = 5}, {.prompt = 12, .output = 8}, {.prompt = 12, .output = 4}};
  laboratory.iteration.keep_free = Tokens(8);
  EXPECT_THAT(laboratory.play(trace).lines,
              ElementsAre("A0+12 B0+12 C0+12", "A12 B12 C12", "A13 B13 out4 out4 out4 out1",
                          "A14 B14", "A15 B15", "B16 C13 in4 in4 in4 in1", "B17 C14", "B18"));
  laboratory.iteration.keep_free = Tokens(12);
  const Played played = laboratory.play(trace);
  EXPECT_THAT(played.lines,
              ElementsAre("A0+12 B0+12 C0+12", "A12 B12 C12", "A13 B13 out4 out4 out4 out1",
                          "A14 B14", "A15 B15", "B16", "B17", "B18", "C13 in4 in4 in4 in1", "C14"));
  EXPECT_EQ(played.sink.steps[3].swapped_groups, 1);
  EXPECT_EQ(played.sink.steps[3].waiting_groups, 0);
}

// C's prefix would fit into what A and B leave, but not beside the watermark.
TEST(SchedulerRules, AResidentPrefixLeavesTheWatermarkFree) {
  Laboratory laboratory;
  laboratory.pool.device_slots = Tokens(40);
  laboratory.iteration.keep_free = Tokens(12);
  laboratory.iteration.prefix = PrefixSharing::whole_blocks;
  const Played played =
      laboratory.play({{.prompt = 16, .output = 3},
                       {.prompt = 8, .output = 3},
                       {.arrival = 1, .prompt = 9, .output = 2, .prefix_tokens = 4}});
  EXPECT_THAT(played.lines, ElementsAre("A0+16 B0+8", "A16 B8", "A17 B9", "prefix0+4 C4+5", "C9"));
}

// B's prompt and what it has drawn exceed the budget together: it is computed again alone.
TEST(SchedulerRules, ARecomputedPromptOverTheBudgetRunsAlone) {
  Laboratory laboratory;
  laboratory.iteration.max_batched_tokens = Tokens(8);
  const Played played =
      laboratory.play({{.prompt = 8, .output = 7}, {.arrival = 1, .prompt = 7, .output = 6}});
  EXPECT_THAT(played.lines, ElementsAre("A0+8", "A8 B0+7", "A9 B7", "A10 B8", "A11", "A12", "A13",
                                        "B0+10", "B10", "B11"));
}

// A prefix that is there costs no budget, and is read like the rest.
TEST(SchedulerRules, OnlyWhatIsComputedCountsAgainstTheBudget) {
  Laboratory laboratory;
  laboratory.pool.device_slots = Tokens(100);
  laboratory.iteration.max_batched_tokens = Tokens(10);
  laboratory.iteration.prefix = PrefixSharing::whole_blocks;
  const Played played =
      laboratory.play({{.prompt = 10, .output = 2, .prefix_tokens = 8},
                       {.arrival = 1, .prompt = 10, .output = 2, .prefix_tokens = 8},
                       {.arrival = 1, .prompt = 10, .output = 2, .prefix_tokens = 8}});
  EXPECT_THAT(played.lines, ElementsAre("prefix0+8 A8+2", "A10 B8+2 C8+2", "B10 C10"));
  EXPECT_EQ(played.sink.totals[1].prompt_tokens, Tokens(2 + 2));
  EXPECT_EQ(played.sink.totals[2].kv_read, Tokens(2 * 11));
  EXPECT_EQ(played.sink.totals[2].prefix_read, Tokens(2 * 8));
}

TEST(SchedulerRules, APromptThatIsNotSharedIsComputedForEachSample) {
  Laboratory laboratory;
  laboratory.iteration.share_prompt = false;
  const Played played =
      laboratory.play({{.prompt = 6, .output = 1, .decoding = {DecodingKind::parallel, 2}}});
  EXPECT_EQ(played.sink.totals[0].prompt_tokens, Tokens(2 * 6));
}

// A and C stand six slots apart, six more are free behind C: D's ten are there, but not in one run.
TEST(SchedulerRules, AFragmentedHeadIsReported) {
  Laboratory laboratory;
  laboratory.allocator = "contiguous-first-fit";
  laboratory.pool.block_tokens = laboratory.iteration.block_tokens = Tokens(1);
  const Played played = laboratory.play({{.prompt = 4, .output = 2},
                                         {.prompt = 5, .output = 1},
                                         {.prompt = 4, .output = 2},
                                         {.prompt = 8, .output = 2}});
  EXPECT_THAT(played.lines, ElementsAre("A0+4 B0+5 C0+4", "A4 C4", "D0+8", "D8"));
  std::vector<bool> fragmented;
  for (const StepEvent& event : played.sink.steps) fragmented.push_back(event.head_fragmented);
  EXPECT_THAT(fragmented, ElementsAre(false, true, false, false));
}

// What its members drew differs, so a group cannot be computed again: it has to go somewhere.
TEST(SchedulerRules, AGroupThatTheHostCannotTakeIsBadInput) {
  Laboratory laboratory;
  laboratory.pool.device_slots = Tokens(32);
  laboratory.pool.host_slots = Tokens(8);
  EXPECT_THROW(
      (void)laboratory.play({{.prompt = 8, .output = 9},
                             {.prompt = 6, .output = 5, .decoding = {DecodingKind::parallel, 2}}}),
      InputError);
}

// C would be one too many; then B's output and A's prompt exceed the limit together, neither alone.
TEST(StaticBatch, EndsAtItsSizeAndAtItsLimit) {
  Laboratory laboratory;
  laboratory.allocator = "contiguous-first-fit";
  laboratory.pool.device_slots = Tokens(200);
  laboratory.static_batch = StaticBatchConfig{.batch_size = 2, .batch_limit = Tokens(13)};
  const Arrival small{.prompt = 2, .output = 2};
  EXPECT_THAT(laboratory.play({small, small, small}).lines,
              ElementsAre("A0+2 B0+2", "A2 B2", "C0+2", "C2"));
  EXPECT_THAT(laboratory.play({{.prompt = 10, .output = 2}, {.prompt = 2, .output = 4}}).lines,
              ElementsAre("A0+10", "A10", "B0+2", "B2", "B3", "B4"));
}

}  // namespace
}  // namespace kvstow
