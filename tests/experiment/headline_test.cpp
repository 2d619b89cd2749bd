// The paper's headline numbers from the paper's own experiment files, at reduced length: one seed,
// tolerances wide enough for one seed. The full suite is judged by `kvstow verify-paper`.
#include <gtest/gtest.h>

#include <map>

#include "bench/experiment/experiment.h"
#include "bench/experiment/run_point.h"

namespace kvstow {
namespace {

// The first seed's result of every curve that `wanted` picks, by system; at the curve's last rate.
template <class Wanted>
std::map<std::string, RunSummary> run(const std::string& figure, double reduced, Wanted wanted) {
  const std::string path =
      std::string(KVSTOW_SOURCE_DIR) + "/bench/experiments/paper/" + figure + ".yaml";
  const Experiment experiment = read_experiment(path, {.reduced = reduced});
  std::map<std::string, RunSummary> results;
  for (const Curve& curve : experiment.curves) {
    if (!wanted(curve.base)) continue;
    const double rate = curve.rates.empty() ? 0 : curve.rates.back();
    results[curve.base.system.name] = run_point(point_of(curve, {rate}, 1)).summary;
  }
  return results;
}

// Fig. 2, its whole window of 900 s.
TEST(Headline, MemoryOfFig2) {
  auto of = run("fig2", 1, [](const ResolvedPoint&) { return true; });
  ASSERT_EQ(of.size(), 4U);
  EXPECT_NEAR(100 * of["orca-max"].memory.live, 20.4, 2.5);
  EXPECT_NEAR(100 * of["orca-pow2"].memory.live, 26.8, 3.5);
  EXPECT_NEAR(100 * of["orca-oracle"].memory.live, 38.2, 2.5);
  EXPECT_NEAR(100 * of["vllm"].memory.live, 96.3, 1);
  EXPECT_EQ(of["orca-oracle"].memory.internal, 0);
  EXPECT_NEAR(100 * of["orca-max"].memory.internal, 57.3, 4);
}

// Fig. 13 on ShareGPT, the first 20 minutes.
TEST(Headline, BatchesOfFig13) {
  auto of = run("fig13", 1.0 / 3, [](const ResolvedPoint& point) {
    return point.workload.lengths == LengthLaw::sharegpt;
  });
  ASSERT_EQ(of.size(), 4U);
  EXPECT_NEAR(of["orca-max"].batch_groups, 7.0, 0.05);
  EXPECT_NEAR(of["orca-pow2"].batch_groups, 9.81, 0.08 * 9.81);
  EXPECT_NEAR(of["orca-oracle"].batch_groups, 13.62, 0.08 * 13.62);
  EXPECT_NEAR(of["vllm"].batch_groups, 30.42, 0.16 * 30.42);
}

// Fig. 15: what the beam model was fitted to, and one prediction.
TEST(Headline, SharingOfFig15) {
  const auto saving = [](DecodingKind kind, int width) {
    const Decoding decoding{kind, width};
    auto of = run("fig15", 0.4, [&](const ResolvedPoint& point) {
      return point.workload.lengths == LengthLaw::alpaca &&
             point.workload.decodings.front().decoding == decoding;
    });
    return 100 * of.at("vllm").sharing_saving;
  };
  EXPECT_NEAR(saving(DecodingKind::beam, 2), 37.56, 1.5);
  EXPECT_NEAR(saving(DecodingKind::beam, 6), 55.16, 4);
  EXPECT_NEAR(saving(DecodingKind::parallel, 6), 9.79, 2);
}

}  // namespace
}  // namespace kvstow
