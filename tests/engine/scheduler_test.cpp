// Golden traces: whole runs on small pools, every step written down and worked out by hand.
// A step reads: letter of the request, first position computed, +count where it is more than one.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/engine/engine_fixture.h"

namespace kvstow {
namespace {

using testing::ElementsAre;

TEST(IterationScheduler, PromptsAndDecodesRunTogether) {
  const Played played = Laboratory{}.play(
      {{.arrival = 0, .prompt = 3, .output = 3}, {.arrival = 1, .prompt = 5, .output = 2}});
  EXPECT_THAT(played.lines, ElementsAre("A0+3", "A3 B0+5", "A4 B5"));
  ASSERT_EQ(played.sink.requests.size(), 2U);
  EXPECT_EQ(played.sink.requests[0].first_token, 1);
  EXPECT_EQ(played.sink.requests[0].finish, 3);
  EXPECT_EQ(played.sink.requests[1].first_scheduled, 1);
  EXPECT_EQ(played.sink.requests[1].finish, 3);
}

// Six blocks of four. In step 2 A holds three blocks and B opens its third: none is free. Step 3
// preempts B although A opens no block (the artifact asks for one free block a sequence); B comes
// back one step later with prompt + generated tokens as its prompt, is preempted again when A opens
// its fourth block, and ends alone.
TEST(IterationScheduler, RecomputesTheLatestArrival) {
  const Played played = Laboratory{}.play(
      {{.arrival = 0, .prompt = 8, .output = 7}, {.arrival = 0, .prompt = 7, .output = 5}});
  EXPECT_THAT(played.lines, ElementsAre("A0+8 B0+7", "A8 B7", "A9 B8", "A10", "A11 B0+10", "A12",
                                        "A13", "B0+11"));
  EXPECT_EQ(played.sink.requests[1].preemptions, 2);
  EXPECT_EQ(played.sink.requests[1].recomputed, Tokens(9 + 10));  // not what it had only drawn
  EXPECT_EQ(played.sink.steps[3].preemptions, 1);
  EXPECT_EQ(played.sink.steps[5].preemptions, 1);
}

// The same under swap: B's nine stored tokens leave for the host and come back when the watermark,
// its three blocks and one more for its next token are free, which is when A has ended.
TEST(IterationScheduler, SwapsTheLatestArrival) {
  Laboratory laboratory;
  laboratory.iteration.preemption = Preemption::swap;
  const Played played = laboratory.play({{.arrival = 0, .prompt = 8, .output = 7},
                                         {.arrival = 0, .prompt = 7, .output = 5},
                                         {.arrival = 4, .prompt = 2, .output = 1}});
  EXPECT_THAT(played.lines, ElementsAre("A0+8 B0+7", "A8 B7", "A9 B8", "A10 out4 out4 out1", "A11",
                                        "A12", "A13", "B9 C0+2 in4 in4 in1", "B10"));
  EXPECT_EQ(played.sink.steps[5].swapped_groups, 1);
  EXPECT_EQ(played.sink.steps[5].waiting_groups, 1);  // C: nothing is admitted while B is out
  const auto& gaps = played.sink.gaps;                // B's fourth token came five seconds late
  EXPECT_EQ(std::count(gaps.begin(), gaps.end(), std::pair<Seconds, std::int64_t>(5, 1)), 1);
}

// Two samples share the prompt's blocks; the first to write into the half-full last one copies its
// two tokens, the other then owns it.
TEST(IterationScheduler, SamplesShareThePromptAndCopyOnWrite) {
  Laboratory laboratory;
  laboratory.pool.device_slots = Tokens(40);
  const Played played =
      laboratory.play({{.prompt = 6, .output = 4, .decoding = {DecodingKind::parallel, 2}}});
  EXPECT_THAT(played.lines, ElementsAre("A*0+6", "A6 copy2", "A7", "A8"));
  EXPECT_EQ(played.sink.steps[0].device.live, Tokens(6));
  EXPECT_EQ(played.sink.steps[0].logical, Tokens(12));
  EXPECT_EQ(played.sink.steps[1].device.live, Tokens(4 + 3 + 3));
  EXPECT_EQ(played.sink.steps[1].mapped, Tokens(16));
}

// A group of several is swapped even where the policy is recompute, and goes and comes as one.
TEST(IterationScheduler, PreemptsAGroupAsOne) {
  Laboratory laboratory;
  laboratory.pool.device_slots = Tokens(32);
  const Played played =
      laboratory.play({{.prompt = 8, .output = 9},
                       {.prompt = 6, .output = 5, .decoding = {DecodingKind::parallel, 2}}});
  EXPECT_THAT(played.lines,
              ElementsAre("A0+8 B*0+6", "A8 B6 copy2", "A9 B7", "A10 B8",
                          "A11 out4 out4 out1 out4 out1",  // the shared block leaves once
                          "A12", "A13", "A14", "A15", "B9 in4 in4 in1 in4 in1"));
}

// Orca: a reservation that does not fit holds up the queue behind it, and what fits is never
// preempted. Six blocks are chunks of four and two; A and B need a chunk of four each.
TEST(IterationScheduler, HeadOfLineBlocksUnderReservation) {
  Laboratory laboratory;
  laboratory.allocator = "buddy";
  laboratory.iteration.estimate = estimate_pow2;
  laboratory.iteration.share_prompt = false;
  const Played played = laboratory.play(
      {{.prompt = 6, .output = 3}, {.prompt = 6, .output = 3}, {.prompt = 1, .output = 1}});
  EXPECT_THAT(played.lines, ElementsAre("A0+6", "A6", "A7", "B0+6 C0", "B6", "B7"));
  EXPECT_EQ(played.sink.steps[0].device.reserved, Tokens(3));  // true total 9
  EXPECT_EQ(played.sink.steps[0].device.internal, Tokens(1));  // asked for 6 + 4
  EXPECT_EQ(played.sink.steps[0].device.rounding, Tokens(6));  // got 16
}

TEST(IterationScheduler, RejectsWhatCanNeverFit) {
  Laboratory laboratory;
  laboratory.iteration.max_batched_tokens = Tokens(10);
  const Played played = laboratory.play(
      {{.prompt = 11, .output = 1},                                            // over the budget
       {.prompt = 9, .output = 15},                                            // over the pool
       {.prompt = 6, .output = 4, .decoding = {DecodingKind::parallel, 2}},    // as a group
       {.prompt = 1, .output = 1, .decoding = {DecodingKind::parallel, 9}}});  // over the cap
  EXPECT_THAT(played.lines, ElementsAre());
  EXPECT_EQ(played.sink.requests.size(), 4U);
  for (const RequestEvent& event : played.sink.requests) EXPECT_TRUE(event.rejected);
}

TEST(IterationScheduler, PromptsAndRunningSequencesShareTheBudget) {
  Laboratory laboratory;
  laboratory.iteration.max_batched_tokens = Tokens(10);
  const Played played = laboratory.play(
      {{.prompt = 6, .output = 2}, {.prompt = 5, .output = 2}, {.prompt = 4, .output = 2}});
  EXPECT_THAT(played.lines, ElementsAre("A0+6", "A6 B0+5 C0+4", "B5 C4"));
}

TEST(IterationScheduler, SequenceCapCountsRunningGroupsPlusNewSequences) {
  Laboratory laboratory;
  laboratory.pool.device_slots = Tokens(400);
  laboratory.iteration.max_sequences = 3;
  const Decoding two{DecodingKind::parallel, 2};
  const Played played = laboratory.play({{.prompt = 2, .output = 2, .decoding = two},
                                         {.prompt = 2, .output = 2, .decoding = two},
                                         {.prompt = 2, .output = 2, .decoding = two}});
  EXPECT_THAT(played.lines, ElementsAre("A*0+2 B*0+2", "A2 B2 copy2 copy2", "C*0+2", "C2 copy2"));
}

// Decodes first, then the prompt that was begun, then what waits. C's slots are there from the
// start.
TEST(IterationScheduler, APromptTakesWhatTheBudgetHasLeft) {
  Laboratory laboratory;
  laboratory.iteration.max_batched_tokens = Tokens(6);
  laboratory.iteration.chunked_prefill = true;
  const Played played = laboratory.play(
      {{.prompt = 2, .output = 4}, {.prompt = 3, .output = 2}, {.prompt = 9, .output = 2}});
  EXPECT_THAT(played.lines, ElementsAre("A0+2 B0+3 C0...", "A2 B3 C1+4...", "A3 C5+4", "A4 C9"));
  const std::vector<StepTotals>& totals = played.sink.totals;
  EXPECT_EQ(totals[1].prompt_tokens, Tokens(4));
  EXPECT_EQ(totals[1].kv_read, Tokens(3 + 4 + 1));  // A, B and C's first chunk
  const StepEvent& first = played.sink.steps.front();
  EXPECT_EQ(first.device.live, Tokens(2 + 3 + 1));
  EXPECT_EQ(first.logical, Tokens(2 + 3 + 1));
  EXPECT_EQ(first.device.reserved, Tokens(2 + 1 + 11 - 1));  // up to the true lengths or the block
  const RequestEvent& c = played.sink.requests.back();
  EXPECT_EQ(c.first_scheduled, 0);
  EXPECT_EQ(c.first_token, 3);
}

TEST(IterationScheduler, AChunkedPromptMayExceedTheBudget) {
  Laboratory laboratory;
  laboratory.pool.device_slots = Tokens(40);
  laboratory.iteration.max_batched_tokens = Tokens(4);
  laboratory.iteration.chunked_prefill = true;
  const Decoding two{DecodingKind::parallel, 2};
  const Played played = laboratory.play({{.prompt = 9, .output = 2, .decoding = two}});
  EXPECT_THAT(played.lines, ElementsAre("A*0+4...", "A*4+4...", "A*8", "A9 copy1"));
  EXPECT_EQ(played.sink.steps[0].device.live, Tokens(4));  // one set of slots
  EXPECT_EQ(played.sink.steps[0].logical, Tokens(8));
}

// Six blocks. When A has opened its fourth none is free, which drops B's two chunks (the artifact
// asks for one free block a sequence): they are computed again, the rest of B for the first time.
TEST(IterationScheduler, PreemptsInTheMiddleOfAPrompt) {
  Laboratory laboratory;
  laboratory.iteration.max_batched_tokens = Tokens(3);
  laboratory.iteration.chunked_prefill = true;
  const std::vector<Arrival> arrivals = {{.prompt = 2, .output = 13},
                                         {.arrival = 10, .prompt = 7, .output = 2}};
  Played played = laboratory.play(arrivals);
  played.lines.erase(played.lines.begin(), played.lines.begin() + 10);
  EXPECT_THAT(played.lines,
              ElementsAre("A11 B0+2...", "A12 B2+2...", "A13", "B0+3...", "B3+3...", "B6", "B7"));
  const RequestEvent& b = played.sink.requests.back();
  EXPECT_EQ(b.preemptions, 1);
  EXPECT_EQ(b.recomputed, Tokens(4));
  EXPECT_EQ(b.first_scheduled, 10);
  EXPECT_EQ(b.first_token, 16);
  // Nothing was late: the gap between its two tokens is one step.
  EXPECT_EQ(played.sink.gaps.back(), (std::pair<Seconds, std::int64_t>(1, 1)));

  laboratory.iteration.preemption = Preemption::swap;
  played = laboratory.play(arrivals);
  played.lines.erase(played.lines.begin(), played.lines.begin() + 12);
  EXPECT_THAT(played.lines, ElementsAre("A13 out4 out3", "B4+3 in4 in3", "B7"));
}

// The first request computes the prefix; a trimmed prefix is shared by reference alone.
TEST(IterationScheduler, SharesAPrefixByWholeBlocks) {
  Laboratory laboratory;
  laboratory.iteration.prefix = PrefixSharing::whole_blocks;
  const Played played =
      laboratory.play({{.prompt = 9, .output = 2, .prefix_tokens = 6},
                       {.arrival = 1, .prompt = 8, .output = 2, .prefix_tokens = 6}});
  EXPECT_THAT(played.lines, ElementsAre("prefix0+4 A4+5", "A9 B4+4", "B8"));
}

// A partial block is copied, but not in the step that computes it.
TEST(IterationScheduler, SharesAPrefixByCopyOnWrite) {
  Laboratory laboratory;
  laboratory.iteration.prefix = PrefixSharing::copy_on_write;
  const Played played =
      laboratory.play({{.prompt = 9, .output = 2, .prefix_tokens = 6},
                       {.arrival = 1, .prompt = 8, .output = 2, .prefix_tokens = 6}});
  EXPECT_THAT(played.lines, ElementsAre("prefix0+6 A4+5", "A9 B6+2 copy2", "B8"));
}

// A resident prefix never leaves: beside it A, once swapped out, could never come back.
TEST(IterationScheduler, NoPrefixStaysThatARequestLetInBeforeDoesNotFitBeside) {
  Laboratory laboratory;
  laboratory.iteration.prefix = PrefixSharing::copy_on_write;
  const Played played =
      laboratory.play({{.prompt = 4, .output = 2, .decoding = {DecodingKind::parallel, 2}},
                       {.arrival = 1, .prompt = 9, .output = 2, .prefix_tokens = 6},
                       {.arrival = 9, .prompt = 8, .output = 2, .prefix_tokens = 6}});
  EXPECT_THAT(played.lines, ElementsAre("A*0+4", "A4 B0+9", "B9", "prefix0+6 C4+4", "C8"));
}

// While A runs no prefix fits beside it, and B, which wants one, waits for memory: that is found
// once, not in every step.
TEST(IterationScheduler, APrefixThatDoesNotFitIsNotAskedForBeforeAGroupLeaves) {
  Laboratory laboratory;
  laboratory.iteration.prefix = PrefixSharing::whole_blocks;
  const Played played = laboratory.play(
      {{.prompt = 13, .output = 7}, {.prompt = 9, .output = 1, .prefix_tokens = 8}});
  EXPECT_THAT(played.lines,
              ElementsAre("A0+13", "A13", "A14", "A15", "A16", "A17", "A18", "prefix0+8 B8"));
  EXPECT_EQ(played.fits_asked,
            5);  // A and B when they arrive, both in the first step, B in the last
}

TEST(IterationScheduler, BeamsForkAndCopyOnWrite) {
  Laboratory laboratory;
  laboratory.pool.device_slots = Tokens(100);
  laboratory.beam_death = 0.5;
  const Played played =
      laboratory.play({{.prompt = 6, .output = 8, .decoding = {DecodingKind::beam, 3}}});
  ASSERT_EQ(played.lines.size(), 8U);
  EXPECT_EQ(played.lines[1], "A6 copy2 copy2");  // three beams leave one shared block of two tokens
  bool forked = false;
  for (const StepEvent& event : played.sink.steps) {
    EXPECT_LE(event.device.live, event.logical);
    forked |= event.index > 1 && event.copied > Tokens(0);
  }
  EXPECT_TRUE(forked);
}

// Pool 24. A, B and C would reserve 6 + 4 each: the allocator refuses C, so the batch is A and B.
// It runs max(output) = 4 steps; A is done after two and its slots are waste from then on.
TEST(StaticBatch, PadsReservesAndEndsTogether) {
  Laboratory laboratory;
  laboratory.allocator = "contiguous-first-fit";
  laboratory.pool.block_tokens = Tokens(1);
  laboratory.static_batch = StaticBatchConfig{.batch_size = 3, .batch_limit = Tokens(20)};
  const Played played = laboratory.play({{.prompt = 6, .output = 2},
                                         {.prompt = 2, .output = 4},
                                         {.prompt = 1, .output = 1},
                                         {.arrival = 1, .prompt = 3, .output = 2},
                                         {.arrival = 2, .prompt = 20, .output = 5}});
  EXPECT_THAT(played.lines, ElementsAre("A0+6 B0+2", "A6 B2", "B3", "B4", "C0 D0+3", "D3"));

  const std::vector<StepTotals>& totals = played.sink.totals;
  EXPECT_EQ(totals[0].prompt_tokens, Tokens(2 * 6));
  EXPECT_EQ(totals[3].kv_read, Tokens(2 * (6 + 3)));  // padded, the finished member too
  EXPECT_EQ(totals[3].sequences, 2);

  const LedgerRow& first = played.sink.steps[0].device;
  EXPECT_EQ(first.live, Tokens(6 + 2));
  EXPECT_EQ(first.reserved, Tokens(2 + 4));
  EXPECT_EQ(first.internal, Tokens(20 - 8 - 6));
  const LedgerRow& third = played.sink.steps[2].device;
  EXPECT_EQ(third.live, Tokens(4));
  EXPECT_EQ(third.internal, Tokens(10 + 4));

  ASSERT_EQ(played.sink.requests.size(), 5U);
  EXPECT_TRUE(played.sink.requests[0].rejected);  // E: over the limit
  for (const int i : {1, 2}) EXPECT_EQ(played.sink.requests[static_cast<std::size_t>(i)].finish, 4);
}

}  // namespace
}  // namespace kvstow
