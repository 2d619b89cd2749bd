// Public traces and length sets, where they lie beside the project (../shared/traces); the tables
// carried in the project are recomputed from them.
#include <gtest/gtest.h>

#include <algorithm>
#include <set>

#include "tests/workloads/helpers.h"
#include "workloads/quantile_tables.h"

namespace kvstow::test {
namespace {

class RealTraces : public testing::Test {
 protected:
  void SetUp() override {
    if (!std::filesystem::exists(folder_)) {
      GTEST_SKIP() << "no public traces at ../shared/traces beside the project";
    }
  }

  [[nodiscard]] WorkloadConfig config_of(const char* file) const {
    WorkloadConfig config;
    config.lengths = LengthLaw::file;
    config.arrivals = ArrivalLaw::all_at_zero;
    config.file = (folder_ / file).string();
    return config;
  }

  // Two columns of a CSV of whole numbers, by position; rows for which `keep(row)`.
  template <class Keep>
  std::pair<std::vector<int>, std::vector<int>> columns(const char* name, std::size_t first,
                                                        std::size_t second, Keep keep) const {
    std::ifstream file(folder_ / name);
    std::string line;
    std::getline(file, line);
    std::pair<std::vector<int>, std::vector<int>> result;
    while (std::getline(file, line)) {
      std::vector<int> row;
      for (std::size_t at = 0; at != std::string::npos;) {
        row.push_back(std::stoi(line.substr(at)));
        at = line.find(',', at);
        if (at != std::string::npos) ++at;
      }
      if (!keep(row)) continue;
      result.first.push_back(row[first]);
      result.second.push_back(row[second]);
    }
    return result;
  }

 private:
  std::filesystem::path folder_ =
      std::filesystem::path(KVSTOW_SOURCE_DIR).parent_path() / "shared" / "traces";
};

// Linear between order statistics, then rounded half to even.
void expect_is_table_of(std::vector<int> values, const QuantileTable& table) {
  std::ranges::sort(values);
  for (std::size_t knot = 0; knot < kQuantiles; ++knot) {
    const double position = QuantileTable::quantile(knot) * static_cast<double>(values.size() - 1);
    const auto low = static_cast<std::size_t>(position);
    const std::size_t high = std::min(low + 1, values.size() - 1);
    const double value =
        values[low] + (position - static_cast<double>(low)) * (values[high] - values[low]);
    EXPECT_EQ(table.knot(knot), std::nearbyint(value)) << "knot " << QuantileTable::quantile(knot);
  }
}

TEST_F(RealTraces, GiveTheTables) {
  using Row = const std::vector<int>&;
  const auto sharegpt =
      columns("sharegpt_opt_lengths.csv", 0, 1, [](Row r) { return r[0] + r[1] <= 2048; });
  EXPECT_EQ(sharegpt.first.size(), 79'731);
  expect_is_table_of(sharegpt.first, kSharegptPrompt);
  expect_is_table_of(sharegpt.second, kSharegptOutput);
  const auto alpaca = columns("alpaca_sample.csv", 1, 2, [](Row r) { return r[0] < 4; });
  EXPECT_EQ(alpaca.first.size(), 5'702);
  expect_is_table_of(alpaca.first, kAlpacaPrompt);
  expect_is_table_of(alpaca.second, kAlpacaOutput);
  const auto wmt = columns("wmt_ende_sentences.csv", 0, 1, [](Row) { return true; });
  EXPECT_EQ(wmt.first.size(), 9'999);
  expect_is_table_of(wmt.first, kWmtSource);
  expect_is_table_of(wmt.second, kWmtTarget);
}

TEST_F(RealTraces, ThePapersShareGptHasThePapersMeans) {
  WorkloadConfig config = config_of("sharegpt_opt_lengths.csv");
  config.over_limit = OverLimit::drop;
  const WorkloadReport report = scan_workload(config, 1);
  EXPECT_EQ(report.delivered, 79'731);
  EXPECT_EQ(report.offered, 84'226);
  EXPECT_NEAR(report.mean_prompt(), 161.310, 0.0005);
  EXPECT_NEAR(report.mean_output(), 337.988, 0.0005);
  double products = 0;
  for (const Request& r : trace_of(config)) {
    products += static_cast<double>(r.prompt.count() * r.output.count());
  }
  EXPECT_NEAR(products / static_cast<double>(report.output_tokens), 171.48, 0.005);
  config.file_rows = 720;  // as the paper's artifact cuts the list for a short run
  EXPECT_NEAR(scan_workload(config, 1).mean_prompt(), 135.8, 0.05);
  EXPECT_NEAR(scan_workload(config, 1).mean_output(), 341.9, 0.05);
  config.file_rows = 0;
  config.shuffle = true;  // another order of the same
  const WorkloadReport shuffled = scan_workload(config, 1);
  EXPECT_EQ(shuffled.delivered, report.delivered);
  EXPECT_EQ(shuffled.prompt_tokens, report.prompt_tokens);
  EXPECT_NE(shuffled.content_hash, report.content_hash);
}

TEST_F(RealTraces, AzureKeepsItsArrivals) {
  WorkloadConfig config = config_of("azure2023_conv.csv");
  config.arrivals = ArrivalLaw::trace;
  config.max_model_len = Tokens(100'000);
  const Moments gap = moments(gaps(trace_of(config)));
  EXPECT_EQ(scan_workload(config, 1).delivered, 19'366);
  EXPECT_NEAR(1 / gap.mean, 5.53, 0.01);
  EXPECT_NEAR(gap.sd / gap.mean, 1.09, 0.01);

  config.max_model_len = Tokens(2048);
  EXPECT_THROW((void)make_workload(config, 1), InputError);
  config.over_limit = OverLimit::drop;
  config.rate_per_s = 2;
  const auto requests = trace_of(config);
  EXPECT_NEAR(1 / moments(gaps(requests)).mean, 2, 1e-6);
  EXPECT_NEAR(scan_workload(config, 1).over_limit_share(), 0.15, 0.005);
}

TEST_F(RealTraces, MooncakeKeepsItsBlockHashes) {
  WorkloadConfig config = config_of("mooncake_synthetic.csv");
  config.arrivals = ArrivalLaw::trace;
  config.max_model_len = Tokens(1'000'000);
  std::set<std::uint64_t> seen;
  std::int64_t hits = 0, blocks = 0;
  for (const Request& request : trace_of(config)) {
    ASSERT_EQ(std::ssize(request.block_hashes), ceil_div(request.prompt.count(), 512));
    for (const std::uint64_t id : request.block_hashes) hits += !seen.insert(id).second;
    blocks += std::ssize(request.block_hashes);
  }
  EXPECT_NEAR(static_cast<double>(hits) / static_cast<double>(blocks), 0.64, 0.01);
}

TEST_F(RealTraces, MultiTurnKeepsItsSessions) {
  WorkloadConfig config = config_of("sharegpt_multiturn_8k.csv");
  config.max_model_len = Tokens(8192);
  std::set<std::uint32_t> sessions;
  auto workload = make_workload(config, 1);
  while (const auto request = workload->next()) sessions.insert(request->session);
  EXPECT_NEAR(workload->report().mean_output(), 438.7, 0.05);
  EXPECT_EQ(sessions.size(), 5'678);
  EXPECT_EQ(*sessions.begin(), 1);
}

}  // namespace
}  // namespace kvstow::test
