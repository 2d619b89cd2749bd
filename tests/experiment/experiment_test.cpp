#include "bench/experiment/experiment.h"

#include <gtest/gtest.h>

#include <fstream>
#include <nlohmann/json.hpp>
#include <set>

#include "bench/experiment/point_json.h"
#include "bench/experiment/run_point.h"

namespace kvstow {
namespace {

Experiment read(const std::string& text, const ReadOptions& options = {}) {
  const std::string path = testing::TempDir() + "experiment_test.yaml";
  std::ofstream(path) << text;
  return read_experiment(path, options);
}

constexpr const char* kTop =
    "name: x\ntitle: t\nmodel: opt-13b\nduration_s: 100\nworkload: {lengths: sharegpt}\n";

const Curve& curve_of(const Experiment& experiment, const std::string& system) {
  for (const Curve& curve : experiment.curves) {
    if (curve.base.system.name == system) return curve;
  }
  throw std::out_of_range(system);
}

TEST(Experiment, SweepIsACrossProductAndRatesAreACurve) {
  const Experiment e = read(std::string(kTop) + "repeats: 3\n" +
                            "sweep: {system: [vllm, orca-max], block_tokens: [8, 16, 32], "
                            "rate_per_s: [1, 2]}\n");
  EXPECT_EQ(e.curves.size(), 6U);
  EXPECT_EQ(e.listed_points, 36U);
  std::set<std::string> keys;
  for (const Curve& curve : e.curves) {
    EXPECT_EQ(curve.rates, (std::vector<double>{1, 2}));
    for (const std::uint64_t seed : {1, 2, 3}) {
      for (const double rate : curve.rates) keys.insert(point_key(point_of(curve, {rate}, seed)));
    }
  }
  EXPECT_EQ(keys.size(), 36U);
}

// The shipped experiments on real traces: without the files they are left out with a plain line.
TEST(Experiment, MissingOptionalTracesAreSkipped) {
  const Experiment e = read(
      "name: x\ntitle: t\nmodel: opt-13b\n"
      "workload: {lengths: file, arrivals: trace, file: no_such_trace.csv, optional: true}\n"
      "sweep: {system: vllm, rate_per_s: [1, 2]}\n");
  EXPECT_TRUE(e.curves.empty());
  ASSERT_EQ(e.skipped.size(), 1U);
  EXPECT_NE(e.skipped.front().find("no_such_trace.csv"), std::string::npos);
}

TEST(Experiment, InnermostSettingWins) {
  const Experiment e = read(std::string(kTop) +
                            "block_tokens: 4\n"
                            "panels:\n"
                            "  - {panel: a, sweep: {system: vllm, rate_per_s: 1}}\n"
                            "  - {panel: b, block_tokens: 8, model: opt-66b,\n"
                            "     sweep: {system: vllm, rate_per_s: 1}}\n"
                            "  - {panel: c, block_tokens: 8,\n"
                            "     sweep: {system: vllm, rate_per_s: 1, block_tokens: 32}}\n");
  ASSERT_EQ(e.curves.size(), 3U);
  EXPECT_EQ(e.curves[0].base.system.block_tokens, Tokens(4));
  EXPECT_EQ(e.curves[1].base.system.block_tokens, Tokens(8));
  EXPECT_EQ(e.curves[1].base.tensor_parallel, 4);
  EXPECT_EQ(e.curves[2].base.system.block_tokens, Tokens(32));
  EXPECT_EQ(e.curves[2].base.labels.panel, "c");
}

TEST(Experiment, ReducedShortensRunsAndWindows) {
  const std::string text =
      std::string(kTop) + "window_s: [50, 100]\nsweep: {system: vllm, rate_per_s: 1}\n";
  const ResolvedPoint point = read(text, {.reduced = 0.1}).curves.front().base;
  EXPECT_DOUBLE_EQ(point.workload.duration_s, 10);
  EXPECT_DOUBLE_EQ(point.window_from_s, 5);
  EXPECT_DOUBLE_EQ(point.window_to_s, 10);
}

// The paper's servers (Table 1) and the artifact's settings, as the presets give them.
TEST(Presets, AreThePapers) {
  const std::string sweep =
      "sweep: {system: [vllm, orca-max, faster-transformer], rate_per_s: 1}\n";
  struct Server {
    const char* model;
    std::int64_t blocks;
    std::int64_t batch_size;
  };
  for (const auto& [model, blocks, batch_size] :
       {Server{"opt-13b", 983, 5}, Server{"opt-66b", 603, 2}, Server{"opt-175b", 3759, 24}}) {
    std::string text = kTop + sweep;
    text.replace(text.find("opt-13b"), 7, model);
    const Experiment e = read(text);
    const ResolvedPoint& vllm = curve_of(e, "vllm").base;
    EXPECT_EQ(pool_config(vllm).device_slots, Tokens(blocks * 16)) << model;
    EXPECT_EQ(watermark(vllm), Tokens(blocks / 100 * 16)) << model;
    EXPECT_EQ(vllm.system.max_sequences, 2048);
    EXPECT_EQ(curve_of(e, "orca-max").base.system.max_sequences, 256);
    EXPECT_EQ(watermark(curve_of(e, "orca-max").base), Tokens(0));
    EXPECT_EQ(curve_of(e, "faster-transformer").base.batch_size, batch_size) << model;
  }
}

TEST(RunPoint, IsDeterministicAndClosesTheLedger) {
  const Experiment e =
      read(std::string(kTop) +
           "sweep: {system: [vllm, orca-pow2, faster-transformer], rate_per_s: 2}\n");
  for (const Curve& curve : e.curves) {
    const ResolvedPoint point = point_of(curve, {2}, 1);
    const RunSummary a = run_point(point).summary;
    const RunSummary b = run_point(point).summary;
    EXPECT_EQ(a.sequence_steps, b.sequence_steps);
    EXPECT_EQ(a.normalized_latency_s_per_token.mean, b.normalized_latency_s_per_token.mean);
    const LedgerShares& m = a.memory;
    EXPECT_NEAR(m.live + m.reserved + m.internal + m.rounding + m.cached + m.in_transit + m.free, 1,
                1e-12);
    EXPECT_EQ(a.arrived, a.finished + a.rejected);
  }
}

}  // namespace
}  // namespace kvstow
