// An executor with several steps in flight sees the same steps, and the same is reported of them.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "core/rng.h"
#include "tests/engine/engine_fixture.h"

namespace kvstow {
namespace {

// All at once, so that the schedule does not depend on when a step ends.
std::vector<Arrival> crowd(bool beams) {
  RandomStream random(5, "run ahead");
  std::vector<Arrival> arrivals;
  for (int i = 0; i < 24; ++i) {
    Arrival a{.prompt = 1 + static_cast<int>(random.below(16)),
              .output = 1 + static_cast<int>(random.below(12))};
    if (i % 5 == 1) a.decoding = {DecodingKind::parallel, 2};
    if (beams && i % 5 == 3) a.decoding = {DecodingKind::beam, 2};
    arrivals.push_back(a);
  }
  return arrivals;
}

// Too small for them all at once.
Laboratory crowded() {
  Laboratory laboratory;
  laboratory.pool = {.device_slots = Tokens(80),
                     .host_slots = Tokens(200),
                     .block_tokens = Tokens(4),
                     .max_sequence = Tokens(64)};
  return laboratory;
}

void expect_same(const Played& a, const Played& b) {
  EXPECT_EQ(a.lines, b.lines);
  EXPECT_EQ(a.sink.gaps, b.sink.gaps);
  ASSERT_EQ(a.sink.steps.size(), b.sink.steps.size());
  for (std::size_t i = 0; i < a.sink.steps.size(); ++i) {
    EXPECT_EQ(a.sink.steps[i].begin, b.sink.steps[i].begin) << i;
    EXPECT_EQ(a.sink.steps[i].device.live, b.sink.steps[i].device.live) << i;
    EXPECT_EQ(a.sink.totals[i].kv_read, b.sink.totals[i].kv_read) << i;
  }
  ASSERT_EQ(a.sink.requests.size(), b.sink.requests.size());
  for (std::size_t i = 0; i < a.sink.requests.size(); ++i) {
    EXPECT_EQ(a.sink.requests[i].id, b.sink.requests[i].id);
    EXPECT_EQ(a.sink.requests[i].first_scheduled, b.sink.requests[i].first_scheduled);
    EXPECT_EQ(a.sink.requests[i].first_token, b.sink.requests[i].first_token);
    EXPECT_EQ(a.sink.requests[i].finish, b.sink.requests[i].finish);
  }
}

TEST(RunAhead, TheSameStepsAndTheSameReports) {
  for (const Preemption preemption : {Preemption::recompute, Preemption::swap}) {
    Laboratory laboratory = crowded();
    laboratory.iteration.preemption = preemption;
    const Played in_step = laboratory.play(crowd(false));
    EXPECT_EQ(in_step.most_in_flight, 1);
    EXPECT_GT(in_step.sink.requests.size(), 20U);
    for (const int depth : {2, 3}) {
      laboratory.depth = depth;
      const Played ahead = laboratory.play(crowd(false));
      EXPECT_EQ(ahead.most_in_flight, depth);
      expect_same(in_step, ahead);
    }
  }
}

TEST(RunAhead, PromptsInChunksToo) {
  Laboratory laboratory = crowded();
  laboratory.iteration.chunked_prefill = true;
  laboratory.iteration.max_batched_tokens = Tokens(7);
  const Played in_step = laboratory.play(crowd(false));
  EXPECT_TRUE(std::any_of(in_step.lines.begin(), in_step.lines.end(), [](const std::string& line) {
    return line.find("...") != std::string::npos;
  }));
  for (const int depth : {2, 3}) {
    laboratory.depth = depth;
    expect_same(in_step, laboratory.play(crowd(false)));
  }
}

TEST(RunAhead, BeamSearchWaitsForItsTokens) {
  Laboratory laboratory = crowded();
  laboratory.beam_death = 0.3;
  const Played in_step = laboratory.play(crowd(true));
  for (const int depth : {2, 3}) {
    laboratory.depth = depth;
    expect_same(in_step, laboratory.play(crowd(true)));
  }
}

TEST(RunAhead, AStoppedRunReportsWhatHasFinished) {
  Laboratory laboratory;
  laboratory.stop_at = 3;
  const Played played = laboratory.play({{.prompt = 3, .output = 2}, {.prompt = 3, .output = 9}});
  EXPECT_THAT(played.lines, testing::ElementsAre("A0+3 B0+3", "A3 B3", "B4"));
  ASSERT_EQ(played.sink.requests.size(), 1U);
  EXPECT_EQ(played.sink.requests[0].id, RequestId(0));
}

TEST(RunAhead, NoStepBeginsForAnArrivalAfterTheStop) {
  for (const int depth : {1, 2, 3}) {
    Laboratory laboratory;
    laboratory.depth = depth;
    laboratory.stop_at = 3;
    const Played played =
        laboratory.play({{.prompt = 3, .output = 2}, {.arrival = 10, .prompt = 3, .output = 2}});
    EXPECT_THAT(played.lines, testing::ElementsAre("A0+3", "A3"));
    EXPECT_EQ(played.sink.requests.size(), 1U);
  }
}

}  // namespace
}  // namespace kvstow
