// The parts together: streams, determinism, the limit, the report.
#include <gtest/gtest.h>

#include <algorithm>

#include "tests/workloads/helpers.h"

namespace kvstow::test {
namespace {

WorkloadConfig poisson(LengthLaw law, double rate_per_s) {
  WorkloadConfig config = batch_of(law, 2000);
  config.arrivals = ArrivalLaw::poisson;
  config.rate_per_s = rate_per_s;
  return config;
}

template <class Field>
auto column(const WorkloadConfig& config, Field field) {
  std::vector<std::decay_t<std::invoke_result_t<Field, const Request&>>> values;
  for (const Request& request : trace_of(config)) values.push_back(field(request));
  return values;
}
const auto arrivals = [](const Request& r) { return r.arrival; };
const auto lengths = [](const Request& r) { return std::pair(r.prompt, r.output); };
const auto widths = [](const Request& r) { return r.decoding.width; };

TEST(Streams, LengthsDoNotDependOnTheRate) {
  EXPECT_EQ(column(poisson(LengthLaw::sharegpt, 1), lengths),
            column(poisson(LengthLaw::sharegpt, 7.5), lengths));
  WorkloadConfig bursty = poisson(LengthLaw::sharegpt, 1);
  bursty.arrivals = ArrivalLaw::gamma;
  bursty.burstiness = 0.3;
  EXPECT_EQ(column(bursty, lengths), column(poisson(LengthLaw::sharegpt, 1), lengths));
}

TEST(Streams, ArrivalsDoNotDependOnTheLengths) {
  EXPECT_EQ(column(poisson(LengthLaw::sharegpt, 2), arrivals),
            column(poisson(LengthLaw::alpaca, 2), arrivals));
  WorkloadConfig dropping = poisson(LengthLaw::sharegpt, 2);
  dropping.max_model_len = Tokens(300);
  dropping.over_limit = OverLimit::drop;
  EXPECT_EQ(column(dropping, arrivals), column(poisson(LengthLaw::alpaca, 2), arrivals));
}

TEST(Streams, DecodingsAndScenariosShiftNothingElse) {
  const WorkloadConfig plain = poisson(LengthLaw::alpaca, 2);
  WorkloadConfig mixed = plain;
  mixed.decodings = {{{DecodingKind::single, 1}, 1}, {{DecodingKind::beam, 4}, 1}};
  EXPECT_EQ(column(mixed, arrivals), column(plain, arrivals));
  EXPECT_EQ(column(mixed, lengths), column(plain, lengths));
  WorkloadConfig chat = mixed;
  chat.scenario = Scenario::chatbot;
  EXPECT_EQ(column(chat, arrivals), column(plain, arrivals));
  EXPECT_EQ(column(chat, widths), column(mixed, widths));
}

TEST(Workload, IsDeterministic) {
  WorkloadConfig config = poisson(LengthLaw::sharegpt, 2);
  config.decodings = {{{DecodingKind::single, 1}, 1}, {{DecodingKind::parallel, 2}, 1}};
  const auto first = scan_workload(config, 3), again = scan_workload(config, 3);
  EXPECT_EQ(first.content_hash, again.content_hash);
  EXPECT_NE(first.content_hash, scan_workload(config, 4).content_hash);
  config.rate_per_s = 2.5;
  EXPECT_NE(first.content_hash, scan_workload(config, 3).content_hash);
}

TEST(Workload, HashesEveryField) {
  const WorkloadConfig plain = batch_of(LengthLaw::alpaca, 10);
  std::vector<WorkloadConfig> variants(5, plain);
  variants[0].decodings = {{{DecodingKind::parallel, 2}, 1}};
  variants[1].decodings = {{{DecodingKind::beam, 2}, 1}};
  variants[2].scenario = Scenario::shared_prefix;
  variants[2].prefix_tokens = Tokens(16);
  variants[3].scenario = Scenario::chatbot;
  variants[4].max_requests = 11;
  std::vector<std::uint64_t> hashes = {scan_workload(plain, 1).content_hash};
  for (const WorkloadConfig& variant : variants) {
    hashes.push_back(scan_workload(variant, 1).content_hash);
  }
  std::ranges::sort(hashes);
  EXPECT_EQ(std::ranges::adjacent_find(hashes), hashes.end());
}

TEST(Workload, CountsIdsFromZeroAndStaysEnded) {
  auto workload = make_workload(batch_of(LengthLaw::alpaca, 5), 1);
  const auto requests = drain(*workload);
  ASSERT_EQ(requests.size(), 5);
  for (std::uint32_t i = 0; i < 5; ++i) EXPECT_EQ(requests[i].id, RequestId(i));
  EXPECT_FALSE(workload->next());
  EXPECT_FALSE(workload->next());
  EXPECT_EQ(workload->report().delivered, 5);
}

TEST(Workload, ReportAddsUpWhileDraining) {
  auto workload = make_workload(poisson(LengthLaw::sharegpt, 2), 1);
  std::int64_t prompt = 0, output = 0, count = 0;
  while (const auto request = workload->next()) {
    prompt += request->prompt.count();
    output += request->output.count();
    ++count;
    const WorkloadReport& report = workload->report();
    ASSERT_EQ(report.delivered, count);
    ASSERT_EQ(report.offered, count);
    ASSERT_DOUBLE_EQ(report.mean_prompt(), double(prompt) / double(count));
    ASSERT_DOUBLE_EQ(report.mean_output(), double(output) / double(count));
    ASSERT_EQ(report.last_arrival, request->arrival);
  }
}

TEST(OverLimit, DropLeavesOutWhatDoesNotFit) {
  WorkloadConfig config = batch_of(LengthLaw::sharegpt, 50'000);
  double fits = 0;
  for (const Request& r : trace_of(config)) fits += r.prompt + r.output <= Tokens(512);
  config.max_model_len = Tokens(512);
  config.over_limit = OverLimit::drop;
  for (const Request& r : trace_of(config)) ASSERT_LE(r.prompt + r.output, Tokens(512));
  const WorkloadReport report = scan_workload(config, 1);
  EXPECT_EQ(report.delivered, 50'000);
  EXPECT_EQ(report.offered, report.delivered + report.dropped);
  EXPECT_EQ(report.clipped, 0);
  // Two estimates of one share p: the difference has variance 2 p (1 - p) / n.
  EXPECT_NEAR(report.over_limit_share(), 1 - fits / 50'000, 4 * std::sqrt(2 * 0.25 / 50'000));
}

TEST(OverLimit, ClipCutsThePromptFirst) {
  WorkloadConfig config = batch_of(LengthLaw::sharegpt, 20'000);
  const auto whole = trace_of(config);
  config.max_model_len = Tokens(512);
  config.over_limit = OverLimit::clip;
  const auto cut = trace_of(config);
  std::int64_t clipped = 0;
  for (std::size_t i = 0; i < whole.size(); ++i) {
    const Tokens prompt = min(whole[i].prompt, Tokens(511));
    ASSERT_EQ(cut[i].prompt, prompt);
    ASSERT_EQ(cut[i].output, min(whole[i].output, Tokens(512) - prompt));
    clipped += whole[i].prompt + whole[i].output > Tokens(512);
  }
  EXPECT_GT(clipped, 0);
  EXPECT_EQ(scan_workload(config, 1).clipped, clipped);
}

}  // namespace
}  // namespace kvstow::test
