#include <fmt/core.h>
#include <gtest/gtest.h>

#include <map>

#include "tests/workloads/helpers.h"

namespace kvstow::test {
namespace {

constexpr int kRequests = 50'000;

// Four standard errors of a share p of n.
double share_error(double p, double n) {
  return 4 * std::sqrt(p * (1 - p) / n);
}

TEST(DecodingMix, DrawsByWeight) {
  WorkloadConfig config = batch_of(LengthLaw::alpaca, kRequests);
  config.decodings = {{{DecodingKind::single, 1}, 5},
                      {{DecodingKind::parallel, 4}, 3},
                      {{DecodingKind::beam, 6}, 2},
                      {{DecodingKind::beam, 2}, 0}};
  std::map<std::pair<DecodingKind, int>, double> shares;
  for (const Request& r : trace_of(config)) {
    shares[{r.decoding.kind, r.decoding.width}] += 1.0 / kRequests;
  }
  EXPECT_EQ(shares.size(), 3);  // weight 0 never comes
  EXPECT_NEAR((shares[{DecodingKind::single, 1}]), 0.5, share_error(0.5, kRequests));
  EXPECT_NEAR((shares[{DecodingKind::parallel, 4}]), 0.3, share_error(0.3, kRequests));
  EXPECT_NEAR((shares[{DecodingKind::beam, 6}]), 0.2, share_error(0.2, kRequests));
}

TEST(SharedPrefix, StandsBeforeEverySentence) {
  WorkloadConfig config = batch_of(LengthLaw::wmt_ende, 1000);
  const auto sentences = trace_of(config);
  config.scenario = Scenario::shared_prefix;
  config.prefix_tokens = Tokens(341);
  const auto requests = trace_of(config);
  ASSERT_EQ(requests.size(), sentences.size());
  for (std::size_t i = 0; i < requests.size(); ++i) {
    EXPECT_EQ(requests[i].prompt, sentences[i].prompt + Tokens(341));
    EXPECT_EQ(requests[i].output, sentences[i].output);
    EXPECT_EQ(requests[i].prefix, PrefixId(0));
    EXPECT_EQ(requests[i].prefix_tokens, Tokens(341));
    EXPECT_FALSE(sentences[i].prefix.valid());
  }
}

TEST(SharedPrefix, CountsTowardsTheLimit) {
  WorkloadConfig config = batch_of(LengthLaw::fixed, 10);
  config.fixed_prompt = config.fixed_output = Tokens(50);
  config.scenario = Scenario::shared_prefix;
  config.prefix_tokens = Tokens(100);
  config.max_model_len = Tokens(200);
  EXPECT_EQ(trace_of(config).size(), 10);
  config.max_model_len = Tokens(199);
  EXPECT_THROW(trace_of(config), InputError);
  config.over_limit = OverLimit::clip;
  for (const Request& r : trace_of(config)) {
    EXPECT_EQ(r.prompt, Tokens(150));
    EXPECT_EQ(r.output, Tokens(49));
  }
}

WorkloadConfig chatbot(LengthLaw law, double p_new) {
  WorkloadConfig config = batch_of(law, kRequests);
  config.scenario = Scenario::chatbot;
  config.p_new = p_new;
  return config;
}

TEST(Chatbot, PromptIsTheCutHistoryWithTheQuery) {
  WorkloadConfig config = chatbot(LengthLaw::fixed, 0.5);
  config.max_requests = 2000;
  config.fixed_prompt = Tokens(150);
  config.fixed_output = Tokens(100);
  std::map<std::uint32_t, std::int64_t> rounds;
  bool cut = false;
  for (const Request& r : trace_of(config)) {
    const std::int64_t uncut = 250 * rounds[r.session]++ + 150;
    EXPECT_EQ(r.prompt, Tokens(std::min<std::int64_t>(uncut, 1024)));
    EXPECT_EQ(r.output, Tokens(100));
    cut |= uncut > 1024;
  }
  EXPECT_TRUE(cut) << "no conversation grew beyond the cut";
}

TEST(Chatbot, LengthsAreCut) {
  for (const double p_new : {0.5, 0.1}) {
    std::int64_t cut_prompts = 0, cut_outputs = 0;
    auto workload = make_workload(chatbot(LengthLaw::sharegpt, p_new), 1);
    while (const auto request = workload->next()) {
      ASSERT_LE(request->prompt, Tokens(1024));
      ASSERT_LE(request->output, Tokens(1016));
      ASSERT_GE(request->session, 1);
      cut_prompts += request->prompt == Tokens(1024);
      cut_outputs += request->output == Tokens(1016);
    }
    EXPECT_GT(cut_outputs, 0);
    EXPECT_GT(cut_prompts, cut_outputs);
    fmt::print("[ measured ] chatbot p_new {}: means {:.0f} / {:.0f}, {:.0f} % of prompts cut\n",
               p_new, workload->report().mean_prompt(), workload->report().mean_output(),
               100.0 * double(cut_prompts) / kRequests);
  }
}

TEST(Chatbot, StartsAndContinuesAsAsked) {
  for (const double p_new : {0.1, 0.5}) {
    std::uint32_t started = 0;
    double continued = 0, position = 0;
    for (const Request& r : trace_of(chatbot(LengthLaw::alpaca, p_new))) {
      ASSERT_LE(r.session, started + 1) << "conversations are numbered as they start";
      if (r.session == started + 1) {
        ++started;
      } else {
        ++continued;
        position += (r.session - 0.5) / started;  // uniform choice: 1/2 on average
      }
    }
    EXPECT_NEAR(started / double{kRequests}, p_new, share_error(p_new, kRequests));
    EXPECT_NEAR(position / continued, 0.5, 4 * std::sqrt(1 / 12.0 / continued));
  }
}

TEST(Chatbot, ExtremesOfStarting) {
  for (const Request& r : trace_of(chatbot(LengthLaw::alpaca, 0))) ASSERT_EQ(r.session, 1);
  std::uint32_t session = 0;
  for (const Request& r : trace_of(chatbot(LengthLaw::alpaca, 1))) ASSERT_EQ(r.session, ++session);
}

}  // namespace
}  // namespace kvstow::test
