// Candidates of beams on the GPU against those of the same logits on the host: the tokens exactly,
// the normaliser within its tolerance, and the beams that are chosen from either.
#include "kernels/cuda/beam_candidates.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>

#include "core/exec/rows/beam_step.h"
#include "core/exec/rows/sampling.h"
#include "core/rng.h"
#include "tests/cuda/device_case.h"

namespace kvstow::kernels::cuda {
namespace {

using testing::DeviceArray;

constexpr std::int32_t kUntouched = -7;

class BeamCandidatesOnGpu : public ::testing::Test {
 protected:
  void SetUp() override {
    if (!testing::have_device()) GTEST_SKIP() << "skipped: no CUDA device";
  }
};

struct Found {
  int stride;
  std::vector<double> log_sum;
  std::vector<std::int32_t> token;
  std::vector<float> logit;

  [[nodiscard]] kvstow::BeamCandidates view(int rows, int count) const {
    return {rows, count, stride, log_sum.data(), token.data(), logit.data()};
  }
};

// `logits` holds the rows side by side; on the device NaN lies between them.
Found find(const std::vector<float>& logits, int vocab, const std::vector<int>& candidates) {
  const auto width = static_cast<std::size_t>(vocab);
  const std::size_t rows = candidates.size();
  const std::size_t stride = (width + 7) / 8 * 8 + 8;
  std::vector<float> padded(rows * stride, std::nanf(""));
  std::vector<SamplingRow> wanted;
  for (std::size_t row = 0; row < rows; ++row) {
    std::copy_n(logits.begin() + static_cast<std::ptrdiff_t>(row * width), width,
                padded.begin() + static_cast<std::ptrdiff_t>(row * stride));
    wanted.push_back({0, 1, 0, 0, 0, 0, candidates[row]});
  }
  const int most = *std::max_element(candidates.begin(), candidates.end());
  const std::size_t places = rows * static_cast<std::size_t>(most);
  const DeviceArray<float> on_device(padded);
  const DeviceArray<SamplingRow> on_rows(wanted);
  const DeviceArray<double> log_sum(std::vector<double>(rows, kUntouched));
  const DeviceArray<std::int32_t> token(std::vector<std::int32_t>(places, kUntouched));
  const DeviceArray<float> logit(std::vector<float>(places, kUntouched));
  beam_candidates(
      {static_cast<int>(rows), vocab, on_device.get(), static_cast<std::int64_t>(stride),
       on_rows.get(), most, log_sum.get(), token.get(), logit.get()},
      nullptr);
  return {most, log_sum.host(), token.host(), logit.host()};
}

void expect_as_on_host(const std::vector<float>& logits, int vocab,
                       const std::vector<int>& candidates) {
  const Found found = find(logits, vocab, candidates);
  const auto width = static_cast<std::size_t>(vocab);
  for (std::size_t row = 0; row < candidates.size(); ++row) {
    SCOPED_TRACE("vocabulary " + std::to_string(vocab) + ", row " + std::to_string(row) + ", " +
                 std::to_string(candidates[row]) + " candidates");
    const auto own = std::span(logits).subspan(row * width, width);
    const auto wanted = static_cast<std::size_t>(candidates[row]);
    std::vector<std::int32_t> want = likeliest(own, wanted);
    const std::size_t first = row * static_cast<std::size_t>(found.stride);
    for (std::size_t i = 0; i < want.size(); ++i) {
      ASSERT_EQ(found.token[first + i], want[i]) << "place " << i;
      ASSERT_EQ(found.logit[first + i], own[static_cast<std::size_t>(want[i])]) << "place " << i;
    }
    for (std::size_t i = want.size(); i < static_cast<std::size_t>(found.stride); ++i) {
      ASSERT_EQ(found.token[first + i], kUntouched) << "place " << i;
    }
    if (wanted > 0) {
      ASSERT_NEAR(found.log_sum[row], log_sum_exp(own), 2e-6);
    } else {
      ASSERT_EQ(found.log_sum[row], kUntouched);
    }
  }
}

constexpr int kVocabularies[] = {1, 3, 8, 13, 511, 512, 513, 1031, 32000, 50272, 151936};

TEST_F(BeamCandidatesOnGpu, AreThoseOfTheHost) {
  RandomStream random(5, "beam candidates");
  int left = testing::from_environment("KVSTOW_TEST_SHAPES", 100);
  for (const int vocab : kVocabularies) {
    if (left-- <= 0) break;
    const std::vector<int> candidates = {1, 6, 0, 2, 13, 64, 64, 200, kMostCandidates};
    std::vector<float> logits;
    for (std::size_t row = 0; row < candidates.size(); ++row) {
      for (int t = 0; t < vocab; ++t) {
        logits.push_back(static_cast<float>(2.5 * random.normal() - 3));
      }
    }
    expect_as_on_host(logits, vocab, candidates);
  }
}

// Few values, so that thousands of tokens tie at the last place; zeros of both signs among them.
TEST_F(BeamCandidatesOnGpu, TiesGoToTheSmallerToken) {
  RandomStream random(6, "beam candidates");
  int left = testing::from_environment("KVSTOW_TEST_SHAPES", 100);
  for (const int vocab : kVocabularies) {
    for (const std::uint32_t values : {1u, 2u, 40u}) {
      if (left-- <= 0) break;
      const std::vector<int> candidates = {1, 6, 64, 300, kMostCandidates};
      std::vector<float> logits;
      for (int i = 0; i < std::ssize(candidates) * vocab; ++i) {
        const auto x = static_cast<float>(random.below(values));
        logits.push_back(x == 0 && random.below(2) == 0 ? -0.0f : x);
      }
      expect_as_on_host(logits, vocab, candidates);
    }
  }
}

// The best ones in one piece of the row, more of them than the kernel lists at once.
TEST_F(BeamCandidatesOnGpu, WhereTheBestStandTogether) {
  int left = testing::from_environment("KVSTOW_TEST_SHAPES", 100);
  for (const int vocab : kVocabularies) {
    if (left-- <= 0) break;
    const std::vector<int> candidates = {6, 6, 64, 64, kMostCandidates, kMostCandidates};
    std::vector<float> logits;
    for (std::size_t row = 0; row < candidates.size(); ++row) {
      for (int t = 0; t < vocab; ++t) {
        logits.push_back(1e-4f * static_cast<float>(row % 2 == 0 ? t : -t));
      }
    }
    expect_as_on_host(logits, vocab, candidates);
  }
}

TEST_F(BeamCandidatesOnGpu, TheSameBitsInEveryBatch) {
  constexpr int kVocab = 50272;
  constexpr int kRows = 150;
  RandomStream random(7, "beam candidates");
  std::vector<float> row;
  for (int t = 0; t < kVocab; ++t) row.push_back(static_cast<float>(2.5 * random.normal()));
  std::vector<float> logits;
  for (int r = 0; r < kRows; ++r) {
    logits.insert(logits.end(), row.begin(), row.end());
    if (r % 3 != 0) logits[logits.size() - 17] = static_cast<float>(r);  // another row
  }
  const Found alone = find(row, kVocab, {6});
  const Found batch = find(logits, kVocab, std::vector<int>(kRows, 6));
  for (int r = 0; r < kRows; r += 3) {
    EXPECT_EQ(
        std::memcmp(&alone.log_sum[0], &batch.log_sum[static_cast<std::size_t>(r)], sizeof(double)),
        0);
    EXPECT_TRUE(std::equal(alone.token.begin(), alone.token.end(), batch.token.begin() + 6 * r));
  }
}

TEST_F(BeamCandidatesOnGpu, ALogitThatIsNotFiniteGivesNoNormaliser) {
  constexpr int kVocab = 1031;
  for (const float bad : {std::nanf(""), INFINITY, -INFINITY}) {
    for (const std::size_t at : {0, 600, kVocab - 1}) {
      std::vector<float> logits(3 * kVocab, 0.5f);
      logits[kVocab + at] = bad;
      const Found found = find(logits, kVocab, {2, 2, 2});
      EXPECT_NEAR(found.log_sum[0], 0.5 + std::log(kVocab), 2e-6);
      EXPECT_TRUE(std::isnan(found.log_sum[1])) << bad << " at " << at;
      EXPECT_NEAR(found.log_sum[2], 0.5 + std::log(kVocab), 2e-6);
    }
  }
}

// Beams that stand close together, chosen from what the device found and from all logits.
TEST_F(BeamCandidatesOnGpu, LeadToTheBeamsThatTheHostChooses) {
  RandomStream random(8, "beam candidates");
  int left = testing::from_environment("KVSTOW_TEST_SHAPES", 100);
  for (const int vocab : {77, 32000, 50272, 151936}) {
    for (const std::size_t width : {2, 6, 64}) {
      if (left-- <= 0) break;
      std::vector<float> logits;
      std::vector<double> scores;
      for (std::size_t beam = 0; beam < width; ++beam) {
        scores.push_back(-40 + 0.5 * random.normal());
        for (int t = 0; t < vocab; ++t) logits.push_back(static_cast<float>(random.normal()));
      }
      const int beams = static_cast<int>(width);
      const Found found = find(logits, vocab, std::vector<int>(width, beams));
      const auto got = beam_step(found.view(beams, beams), scores);
      const auto want = beam_step(HostCandidates(logits, vocab, width).view(), scores);
      for (std::size_t i = 0; i < width; ++i) {
        EXPECT_EQ(got[i].parent, want[i].parent) << vocab << ", beam " << i << " of " << width;
        EXPECT_EQ(got[i].token, want[i].token) << vocab << ", beam " << i << " of " << width;
        EXPECT_NEAR(got[i].score, want[i].score, 2e-6);
      }
    }
  }
}

}  // namespace
}  // namespace kvstow::kernels::cuda
