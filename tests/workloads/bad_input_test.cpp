// Everything a user can get wrong gives one line that says where and what.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <functional>
#include <limits>

#include "tests/workloads/helpers.h"

namespace kvstow::test {
namespace {

using testing::AllOf;
using testing::HasSubstr;
using testing::Not;
using testing::StartsWith;

// The message of the InputError that making (or draining) the workload throws; "" without one.
std::string complaint(const WorkloadConfig& config) {
  try {
    (void)scan_workload(config, 1);
  } catch (const InputError& error) {
    return error.what();
  }
  return "";
}

WorkloadConfig good() {
  WorkloadConfig config;
  config.rate_per_s = 2;
  config.duration_s = 10;
  return config;
}

struct BadConfig {
  const char* message;
  std::function<void(WorkloadConfig&)> spoil;
};

TEST(BadInput, ConfigsNameTheirKey) {
  constexpr double kNan = std::numeric_limits<double>::quiet_NaN();
  constexpr double kInfinity = std::numeric_limits<double>::infinity();
  using C = WorkloadConfig;
  const BadConfig cases[] = {
      {"rate_per_s: must be a positive number, is -1", [](C& c) { c.rate_per_s = -1; }},
      {"rate_per_s: must be a positive number, is nan", [=](C& c) { c.rate_per_s = kNan; }},
      {"rate_per_s: must be a positive number, is 0", [](C& c) { c.rate_per_s = 0; }},
      {"rate_per_s: must be a positive number, is inf", [=](C& c) { c.rate_per_s = kInfinity; }},
      {"duration_s: must be a number from 0, is nan", [=](C& c) { c.duration_s = kNan; }},
      {"duration_s: needed", [](C& c) { c.duration_s = 0; }},
      {"max_requests: must be a number from 0, is -3", [](C& c) { c.max_requests = -3; }},
      {"max_requests: 200000000 exceed a run's 100000000",
       [](C& c) { c.max_requests = 200'000'000; }},
      {"rate_per_s: some 1e+09 requests exceed a run's 100000000",
       [](C& c) { c.rate_per_s = 1e6, c.duration_s = 1000; }},
      {"rate_per_s: some 2e+12 requests exceed a run's 100000000",
       [](C& c) { c.rate_per_s = 2, c.quantum_s = 1e12; }},
      {"max_requests: needed", [](C& c) { c.arrivals = ArrivalLaw::all_at_zero; }},
      {"quantum_s: must be a number from 0, is -0.01", [](C& c) { c.quantum_s = -0.01; }},
      {"burstiness: must be a positive number, is 0",
       [](C& c) { c.arrivals = ArrivalLaw::gamma, c.burstiness = 0; }},
      {"burstiness: must be at least 0.001, is 1e-300",
       [](C& c) { c.arrivals = ArrivalLaw::gamma, c.burstiness = 1e-300; }},
      {"prompt_tokens: must be at least one token, is 0",
       [](C& c) { c.lengths = LengthLaw::fixed, c.fixed_output = Tokens(1); }},
      {"output_tokens: must be at least one token, is -5",
       [](C& c) {
         c.lengths = LengthLaw::fixed, c.fixed_prompt = Tokens(1), c.fixed_output = Tokens(-5);
       }},
      {"output_cv: must be a number from 0, is -1",
       [](C& c) {
         c.lengths = LengthLaw::fixed, c.fixed_prompt = c.fixed_output = Tokens(1),
         c.output_cv = -1;
       }},
      {"lengths: request 0: prompt 2000 + output 49 = 2049 tokens exceed the limit of 2048",
       [](C& c) {
         c.lengths = LengthLaw::fixed, c.fixed_prompt = Tokens(2000), c.fixed_output = Tokens(49);
       }},
      {"over_limit: drop: 1000000 requests in a row exceed the limit",
       [](C& c) {
         c.lengths = LengthLaw::fixed, c.fixed_prompt = c.fixed_output = Tokens(2000);
         c.over_limit = OverLimit::drop;
       }},
      {"max_model_len: must be at least 2 tokens", [](C& c) { c.max_model_len = Tokens(1); }},
      {"file: needed", [](C& c) { c.lengths = LengthLaw::file; }},
      {"file: needed", [](C& c) { c.arrivals = ArrivalLaw::trace; }},
      {"shuffle: cannot be used with arrivals trace",
       [](C& c) { c.arrivals = ArrivalLaw::trace, c.file = "x.csv", c.shuffle = true; }},
      {"decodings: needs at least one", [](C& c) { c.decodings.clear(); }},
      {"decodings: a beam width must be at least 1, is 0",
       [](C& c) {
         c.decodings = {{{DecodingKind::beam, 0}, 1}};
       }},
      {"decodings: a number of samples must be at least 1, is -2",
       [](C& c) {
         c.decodings = {{{DecodingKind::parallel, -2}, 1}};
       }},
      {"decodings: single has one sequence, not 2",
       [](C& c) {
         c.decodings = {{{DecodingKind::single, 2}, 1}};
       }},
      {"decodings: weight: must be a number from 0, is -1",
       [](C& c) {
         c.decodings = {{{DecodingKind::single, 1}, -1}};
       }},
      {"decodings: all weights are 0",
       [](C& c) {
         c.decodings = {{{DecodingKind::single, 1}, 0}};
       }},
      {"prefix_tokens: must be at least one token",
       [](C& c) { c.scenario = Scenario::shared_prefix; }},
      {"prefix_tokens: 2047 leave no room",
       [](C& c) { c.scenario = Scenario::shared_prefix, c.prefix_tokens = Tokens(2047); }},
      {"new_conversation_probability: must be a probability, is 1.5",
       [](C& c) { c.scenario = Scenario::chatbot, c.p_new = 1.5; }},
      {"new_conversation_probability: must be a probability, is nan",
       [=](C& c) { c.scenario = Scenario::chatbot, c.p_new = kNan; }},
      {"history_limit_tokens: 1024 + output_limit_tokens 1016 exceed max_model_len 1024",
       [](C& c) { c.scenario = Scenario::chatbot, c.max_model_len = Tokens(1024); }},
  };
  ASSERT_EQ(complaint(good()), "");
  for (const BadConfig& bad : cases) {
    WorkloadConfig config = good();
    bad.spoil(config);
    EXPECT_THAT(complaint(config), StartsWith(std::string("workload.") + bad.message));
  }
}

struct BadFile {
  const char* ending;
  const char* content;
  const char* message;  // after the path
};

TEST(BadInput, FilesNameTheirLine) {
  const BadFile cases[] = {
      {".csv", "", ": is empty"},
      {".csv", "arrival_s,prompt_tokens,output_tokens\n", ": has no requests"},
      {".csv", "arrival_s,prompt_token,output_tokens\n0,1,1\n",
       ":1: no column prompt_tokens (or ContextTokens); the header is "
       "'arrival_s,prompt_token,output_tokens'"},
      {".csv", "prompt_tokens,output_tokens\n1,1\n", ":1: no column arrival_s (or TIMESTAMP)"},
      {".csv", "arrival_s,prompt_tokens,prompt_tokens\n", ":1: two columns for 'prompt_tokens'"},
      {".csv", "arrival_s,prompt_tokens,output_tokens\n0,1,1\n1,5\n",
       ":3: 2 columns, but the header has 3"},
      {".csv", "arrival_s,prompt_tokens,output_tokens\n0,1,1\n1\n",
       ":3: 1 column, but the header has 3"},
      {".csv", "arrival_s,prompt_tokens,output_tokens\n0,1,1,1\n",
       ":2: 4 columns, but the header has 3"},
      {".csv", "arrival_s,prompt_tokens,output_tokens\n0,abc,1\n",
       ":2: prompt_tokens 'abc' is not a whole number of tokens"},
      {".csv", "arrival_s,prompt_tokens,output_tokens\n0,1.5,1\n",
       ":2: prompt_tokens '1.5' is not a whole number of tokens"},
      {".csv", "arrival_s,prompt_tokens,output_tokens\n0,1,\n",
       ":2: output_tokens '' is not a whole number of tokens"},
      {".csv", "arrival_s,prompt_tokens,output_tokens\n0,1,nan\n",
       ":2: output_tokens 'nan' is not a whole number of tokens"},
      {".csv", "arrival_s,prompt_tokens,output_tokens\n0,-4,1\n",
       ":2: prompt_tokens '-4' is less than one token"},
      {".csv", "arrival_s,prompt_tokens,output_tokens\n0,4,0\n",
       ":2: output_tokens '0' is less than one token"},
      {".csv", "arrival_s,prompt_tokens,output_tokens\n0,4,99999999999\n",
       ":2: output_tokens '99999999999' is too large"},
      {".csv", "arrival_s,prompt_tokens,output_tokens\nnan,1,1\n",
       ":2: arrival_s 'nan' is not a time in seconds"},
      {".csv", "arrival_s,prompt_tokens,output_tokens\n-1,1,1\n", ":2: arrival_s '-1' is negative"},
      {".csv", "arrival_s,prompt_tokens,output_tokens\n0,1,1\n2,1,1\n1.5,1,1\n",
       ":4: arrival 1.5 s is before the previous row's 2 s"},
      {".csv", "arrival_s,prompt_tokens,output_tokens\n0,1,1\n1,2000,49\n",
       ":3: prompt 2000 + output 49 = 2049 tokens exceed the limit of 2048"},
      {".csv", "arrival_s,prompt_tokens,output_tokens,hash_ids\n0,1,1,1 x\n",
       ":2: hash_ids '1 x' is not a list"},
      {".csv", "arrival_s,prompt_tokens,output_tokens,session_id\n0,1,1,-1\n",
       ":2: session_id '-1' is not a whole number"},
      {".csv", "TIMESTAMP,ContextTokens,GeneratedTokens\n2023-13-16 18:15:46,1,1\n",
       ":2: TIMESTAMP '2023-13-16 18:15:46' is not a time like"},
      {".csv", "TIMESTAMP,ContextTokens,GeneratedTokens\n2023-11-16 18:15,1,1\n",
       ":2: TIMESTAMP '2023-11-16 18:15' is not a time like"},
      {".csv", "TIMESTAMP,ContextTokens,GeneratedTokens\n2023-11-16 18:15:46.x,1,1\n",
       ":2: TIMESTAMP '2023-11-16 18:15:46.x' is not a time like"},
      {".jsonl", "", ": has no requests"},
      {".jsonl", "{\"timestamp\": 0, \"input_length\": 1, \"outp", ":1: is not a complete JSON"},
      {".jsonl", "[1]\n", ":1: is not a JSON object"},
      {".jsonl", "{\"timestamp\": 0, \"input_length\": 1}\n", ":1: has no key 'output_length'"},
      {".jsonl", "{\"timestamp\": -1, \"input_length\": 1, \"output_length\": 1}\n",
       ":1: timestamp is negative"},
      {".jsonl", "{\"timestamp\": \"0\", \"input_length\": 1, \"output_length\": 1}\n",
       ":1: timestamp is not a time"},
      {".jsonl", "{\"timestamp\": 0, \"input_length\": 1.5, \"output_length\": 1}\n",
       ":1: input_length is not a whole number"},
      {".jsonl",
       "{\"timestamp\": 0, \"input_length\": 18446744073709551615, \"output_length\": 1}\n",
       ":1: input_length 18446744073709551615 is too large"},
      {".jsonl", "{\"timestamp\": 0, \"input_length\": 1, \"output_length\": 0}\n",
       ":1: output_length 0 is less than one token"},
      {".jsonl",
       "{\"timestamp\": 0, \"input_length\": 1, \"output_length\": 1, \"hash_ids\": [-1]}\n",
       ":1: hash_ids holds something that is not a whole number"},
      {".jsonl",
       "{\"timestamp\": 9, \"input_length\": 1, \"output_length\": 1}\n"
       "{\"timestamp\": 8, \"input_length\": 1, \"output_length\": 1}\n",
       ":2: arrival 0.008 s is before the previous row's 0.009"},
      {".json", "[]", ": ShareGPT JSON has no arrivals"},
      {".txt", "x", ": the ending '.txt' names no trace format"},
  };
  for (const BadFile& bad : cases) {
    const TempFile file(bad.ending, bad.content);
    WorkloadConfig config;
    config.lengths = LengthLaw::file;
    config.arrivals = ArrivalLaw::trace;
    config.file = file.path();
    EXPECT_THAT(complaint(config),
                AllOf(StartsWith(file.path() + bad.message), Not(HasSubstr("\n"))))
        << bad.content;
  }
}

TEST(BadInput, ShareGptJson) {
  const BadFile cases[] = {
      {".json", "", ": is empty"},
      {".json", "[]", ": no conversation has a human turn and a reply"},
      {".json", "{\"conversations\": []}", ": is not a list of conversations"},
      {".json", "3", ": is not a list of conversations"},
      {".json", "[1e999]", ": not valid JSON after 0 conversations"},
      {".json", "[{\"conversations\":\n[{\"from\": \"human\", \"val",
       ":2: not valid JSON after 1 conversations (is it cut short?)"},
      {".json", "[{\"conversations\": [{\"from\": \"human\", \"value\": 4}]}]",
       ": conversation 1: 'value' is not a text"},
  };
  for (const BadFile& bad : cases) {
    const TempFile file(bad.ending, bad.content);
    WorkloadConfig config = batch_of(LengthLaw::file, 10);
    config.file = file.path();
    EXPECT_THAT(complaint(config), StartsWith(file.path() + bad.message)) << bad.content;
    config.file_format = FileFormat::sharegpt_json;
    config.chars_per_token = 0;
    EXPECT_THAT(complaint(config), StartsWith("workload.chars_per_token: must be a positive"));
    config.chars_per_token = 1e-300;
    EXPECT_THAT(complaint(config), StartsWith("workload.chars_per_token: must be at least 0.001"));
  }
}

TEST(BadInput, FilesAreCheckedWholeBeforeTheFirstRequest) {
  const TempFile file(".csv", "arrival_s,prompt_tokens,output_tokens\n0,1,1\n1,1,1\n2,x,1\n");
  WorkloadConfig config;
  config.lengths = LengthLaw::file;
  config.arrivals = ArrivalLaw::trace;
  config.file = file.path();
  config.max_requests = 1;
  EXPECT_THROW((void)make_workload(config, 1), InputError);
}

TEST(BadInput, MissingFilesAndRates) {
  WorkloadConfig config;
  config.lengths = LengthLaw::file;
  config.arrivals = ArrivalLaw::trace;
  config.file = "no-such-trace.csv";
  EXPECT_EQ(complaint(config), "no-such-trace.csv: no such trace file");
  config.file = "/";
  EXPECT_EQ(complaint(config), "/: not a file");

  const TempFile at_once(".csv", "arrival_s,prompt_tokens,output_tokens\n3,1,1\n3,1,1\n");
  config.file = at_once.path();
  EXPECT_EQ(complaint(config), "");
  config.rate_per_s = 2;
  EXPECT_THAT(complaint(config), HasSubstr("its arrivals span no time"));

  const TempFile long_only(".csv", "arrival_s,prompt_tokens,output_tokens\n3,4000,1\n4,4000,1\n");
  config.file = long_only.path();
  config.over_limit = OverLimit::drop;
  EXPECT_THAT(complaint(config), HasSubstr("all 2 requests exceed the limit of 2048 tokens"));
}

}  // namespace
}  // namespace kvstow::test
