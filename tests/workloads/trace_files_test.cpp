#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <set>

#include "tests/workloads/helpers.h"

namespace kvstow::test {
namespace {

using testing::ElementsAre;

WorkloadConfig replay(const TempFile& file) {
  WorkloadConfig config;
  config.lengths = LengthLaw::file;
  config.arrivals = ArrivalLaw::trace;
  config.file = file.path();
  return config;
}

WorkloadConfig lengths_only(const TempFile& file) {
  WorkloadConfig config = replay(file);
  config.arrivals = ArrivalLaw::all_at_zero;
  return config;
}

std::vector<double> arrivals(const std::vector<Request>& requests) {
  std::vector<double> result;
  for (const Request& r : requests) result.push_back(r.arrival);
  return result;
}

std::vector<std::int64_t> prompts(const std::vector<Request>& requests) {
  std::vector<std::int64_t> result;
  for (const Request& r : requests) result.push_back(r.prompt.count());
  return result;
}

TEST(CsvTrace, ReadsColumnsByName) {
  const TempFile file(
      ".csv",
      "\xEF\xBB\xBFnote,output_tokens, prompt_tokens ,arrival_s,hash_ids,session_id\r\n"
      "a,5,10,1.5,7 8,0\r\n"
      "\r\n"
      "b,6,20,1.75,,3\r\n"
      "c,7,30,3.5,9,0");
  const auto requests = trace_of(replay(file));
  ASSERT_EQ(requests.size(), 3);
  EXPECT_THAT(arrivals(requests), ElementsAre(0, 0.25, 2));  // counted from the first row
  EXPECT_THAT(prompts(requests), ElementsAre(10, 20, 30));
  EXPECT_EQ(requests[2].output, Tokens(7));
  EXPECT_THAT(requests[0].block_hashes, ElementsAre(7, 8));
  EXPECT_THAT(requests[1].block_hashes, ElementsAre());
  EXPECT_EQ(requests[0].session, 1);
  EXPECT_EQ(requests[1].session, 4);
}

TEST(CsvTrace, ReadsAzuresTimes) {
  const TempFile file(".csv",
                      "TIMESTAMP,ContextTokens,GeneratedTokens\n"
                      "2023-11-16 23:59:58.5000000,374,44\n"
                      "2023-11-17 00:00:00.0000001,396,109\n"
                      "2023-11-17T00:00:01Z,879,55\n"
                      "2023-11-17 01:00:01.250+01:00,91,16\n");
  const auto requests = trace_of(replay(file));
  ASSERT_EQ(requests.size(), 4);
  EXPECT_DOUBLE_EQ(requests[1].arrival, 1.5000001);
  EXPECT_DOUBLE_EQ(requests[2].arrival, 2.5);
  EXPECT_DOUBLE_EQ(requests[3].arrival, 2.75);
  EXPECT_THAT(prompts(requests), ElementsAre(374, 396, 879, 91));
}

TEST(JsonlTrace, ReadsMooncake) {
  const TempFile file(
      ".jsonl",
      R"({"timestamp": 500, "input_length": 1300, "output_length": 52, "hash_ids": [0, 1, 46]})"
      "\n\n"
      R"({"timestamp": 3000, "input_length": 20, "output_length": 1})"
      "\n");
  const auto requests = trace_of(replay(file));
  ASSERT_EQ(requests.size(), 2);
  EXPECT_THAT(arrivals(requests), ElementsAre(0, 2.5));
  EXPECT_EQ(requests[0].prompt, Tokens(1300));
  EXPECT_EQ(requests[0].output, Tokens(52));
  EXPECT_THAT(requests[0].block_hashes, ElementsAre(0, 1, 46));
  EXPECT_TRUE(requests[1].block_hashes.empty());
}

TEST(ShareGptJson, TakesTheFirstPairOfAConversation) {
  const TempFile file(".json", R"([
    {"id": "a", "conversations": [{"from": "human", "value": "12345678"},
                                  {"from": "gpt", "value": "123456789"},
                                  {"from": "human", "value": "1"}, {"from": "gpt", "value": "1"}]},
    {"id": "no reply", "conversations": [{"from": "human", "value": "1234"}]},
    {"id": "empty", "conversations": []},
    {"conversations": [{"value": "ignored", "from": "system"}, {"value": "1234", "from": "user"},
                       {"value": "", "from": "gpt"}, {"value": "äöü€1", "from": "assistant"}],
     "extra": {"conversations": [{"from": "human", "value": "no"}], "n": [1, null]}}
  ])");
  auto requests = trace_of(lengths_only(file));
  ASSERT_EQ(requests.size(), 2);
  EXPECT_THAT(prompts(requests), ElementsAre(2, 1));
  EXPECT_EQ(requests[0].output, Tokens(3));
  EXPECT_EQ(requests[1].output, Tokens(2));  // 5 characters, not 10 bytes

  WorkloadConfig config = lengths_only(file);
  config.chars_per_token = 2.5;
  EXPECT_THAT(prompts(trace_of(config)), ElementsAre(4, 2));
}

constexpr std::string_view kFive =
    "arrival_s,prompt_tokens,output_tokens\n0,1,1\n1,2,1\n2,3,1\n3,4,1\n4,5,1\n";

TEST(TraceFile, IsRescaledToARate) {
  const TempFile file(".csv", kFive);
  WorkloadConfig config = replay(file);
  config.rate_per_s = 4;  // recorded at 1 request/s
  EXPECT_THAT(arrivals(trace_of(config)), ElementsAre(0, 0.25, 0.5, 0.75, 1));
  config.duration_s = 0.75;  // of the run, after rescaling
  EXPECT_EQ(trace_of(config).size(), 3);
}

TEST(TraceFile, IsRescaledToTheRateOfTheKept) {
  const TempFile file(".csv",
                      "arrival_s,prompt_tokens,output_tokens\n"
                      "0,4000,1\n1,1,1\n2,4000,1\n3,2,1\n4,4000,1\n5,3,1\n6,4000,1\n");
  WorkloadConfig config = replay(file);
  config.over_limit = OverLimit::drop;
  config.rate_per_s = 1;  // three kept requests, two seconds apart
  auto workload = make_workload(config, 1);
  EXPECT_THAT(arrivals(drain(*workload)), ElementsAre(0, 1, 2));
  EXPECT_EQ(workload->report().dropped, 4);
  EXPECT_DOUBLE_EQ(workload->report().over_limit_share(), 4.0 / 7);
}

TEST(TraceFile, GivesArrivalsToASyntheticLaw) {
  const TempFile file(".csv", "arrival_s\n10\n10\n12.5\n");
  WorkloadConfig config = replay(file);
  config.lengths = LengthLaw::alpaca;
  const auto requests = trace_of(config);
  EXPECT_THAT(arrivals(requests), ElementsAre(0, 0, 2.5));
  EXPECT_EQ(prompts(requests), prompts(trace_of(batch_of(LengthLaw::alpaca, 3))));
}

TEST(TraceFile, GivesLengthsOnceOrAgainAndAgain) {
  const TempFile file(".csv", "prompt_tokens,output_tokens\n1,1\n2,1\n3,1\n");
  WorkloadConfig config = lengths_only(file);
  EXPECT_THAT(prompts(trace_of(config)), ElementsAre(1, 2, 3));
  config.max_requests = 7;
  EXPECT_THAT(prompts(trace_of(config)), ElementsAre(1, 2, 3, 1, 2, 3, 1));
  config.file_rows = 2;
  EXPECT_THAT(prompts(trace_of(config)), ElementsAre(1, 2, 1, 2, 1, 2, 1));
}

TEST(TraceFile, CountsItsFirstRowsAfterTheLimit) {
  const TempFile file(".csv", "prompt_tokens,output_tokens\n9000,1\n1,1\n9000,1\n2,1\n3,bad\n");
  WorkloadConfig config = lengths_only(file);
  config.over_limit = OverLimit::drop;
  config.file_rows = 2;
  EXPECT_THAT(prompts(trace_of(config)), ElementsAre(1, 2));
  EXPECT_EQ(scan_workload(config, 1).dropped, 2);
}

TEST(TraceFile, ShufflesEachPassAnew) {
  std::string content = "prompt_tokens,output_tokens\n";
  for (int i = 1; i <= 100; ++i) content += std::to_string(i) + ",1\n";
  const TempFile file(".csv", content);
  WorkloadConfig config = lengths_only(file);
  config.shuffle = true;
  config.max_requests = 200;
  const auto drawn = prompts(trace_of(config));
  const std::vector<std::int64_t> first(drawn.begin(), drawn.begin() + 100);
  const std::vector<std::int64_t> second(drawn.begin() + 100, drawn.end());
  EXPECT_EQ(std::set(first.begin(), first.end()).size(), 100);
  EXPECT_EQ(std::set(second.begin(), second.end()).size(), 100);
  EXPECT_NE(first, second);
  EXPECT_FALSE(std::ranges::is_sorted(first));
  EXPECT_EQ(drawn, prompts(trace_of(config)));
}

}  // namespace
}  // namespace kvstow::test
