#include "core/exec/rows/beam_step.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>

#include "core/check.h"
#include "core/exec/rows/group_draw.h"
#include "core/rng.h"
#include "tests/kernels/random_floats.h"

namespace kvstow {
namespace {

using ::testing::ElementsAre;

std::vector<BeamChoice> step(std::span<const float> logits, int vocab,
                             std::span<const double> scores) {
  return beam_step(HostCandidates(logits, vocab, scores.size()).view(), scores);
}

// The definition, over every continuation of every beam.
std::vector<BeamChoice> all_continuations(std::span<const float> logits, int vocab,
                                          std::span<const double> scores) {
  std::vector<BeamChoice> all;
  const auto width = static_cast<std::size_t>(vocab);
  for (std::size_t beam = 0; beam * width < logits.size(); ++beam) {
    const auto row = logits.subspan(beam * width, width);
    double sum = 0;
    for (const float x : row) sum += std::exp(double{x});
    for (std::size_t token = 0; token < width; ++token) {
      const double logprob = double{row[token]} - std::log(sum);
      all.push_back({static_cast<std::int32_t>(beam), static_cast<std::int32_t>(token),
                     static_cast<float>(logprob), scores[beam] + logprob});
    }
  }
  std::stable_sort(all.begin(), all.end(),
                   [](const auto& a, const auto& b) { return a.score > b.score; });
  return all;
}

TEST(BeamStep, KeepsTheBestAndLeavesSurvivorsInPlace) {
  constexpr int kVocab = 13;
  constexpr std::size_t kWidth = 4;
  for (std::uint64_t seed = 0; seed < 200; ++seed) {
    const auto logits = random_floats(kVocab * kWidth, seed, 2);
    const auto drawn = random_floats(kWidth, seed + 1000);
    const std::vector<double> scores(drawn.begin(), drawn.end());
    const std::vector<BeamChoice> chosen = step(logits, kVocab, scores);
    std::vector<BeamChoice> want = all_continuations(logits, kVocab, scores);
    want.resize(kWidth);

    std::vector<std::pair<int, int>> got_pairs;
    std::vector<std::pair<int, int>> want_pairs;
    for (std::size_t i = 0; i < kWidth; ++i) {
      got_pairs.emplace_back(chosen[i].parent, chosen[i].token);
      want_pairs.emplace_back(want[i].parent, want[i].token);
      const auto parent = static_cast<std::size_t>(chosen[i].parent);
      EXPECT_EQ(chosen[parent].parent, chosen[i].parent) << "a parent must stay where it is";
      EXPECT_NEAR(chosen[i].score, scores[parent] + double{chosen[i].logprob}, 1e-6);
    }
    EXPECT_THAT(got_pairs, ::testing::UnorderedElementsAreArray(want_pairs)) << seed;
  }
}

// Logits that are small integers, scores too: most continuations tie with many others.
TEST(BeamStep, TiesGoByParentAndThenByToken) {
  constexpr int kVocab = 24;
  for (std::uint64_t seed = 0; seed < 200; ++seed) {
    RandomStream random(seed, "beams");
    const std::size_t width = 1 + random.below(kVocab);
    std::vector<float> row(kVocab);
    for (float& x : row) x = static_cast<float>(random.below(3));
    std::vector<float> logits;  // the same in every row, so that scores tie exactly
    std::vector<double> scores;
    for (std::size_t i = 0; i < width; ++i) {
      logits.insert(logits.end(), row.begin(), row.end());
      scores.push_back(random.below(2));
    }
    const double log_sum = HostCandidates(row, kVocab, 1).view().log_sum[0];
    std::vector<BeamChoice> want;
    for (std::size_t i = 0; i < width; ++i) {
      for (int token = 0; token < kVocab; ++token) {
        const double logprob = double{row[static_cast<std::size_t>(token)]} - log_sum;
        want.push_back({static_cast<std::int32_t>(i), token, static_cast<float>(logprob),
                        scores[i] + logprob});
      }
    }
    std::stable_sort(want.begin(), want.end(),
                     [](const auto& a, const auto& b) { return a.score > b.score; });
    want.resize(width);
    std::vector<std::pair<int, int>> got_pairs;
    std::vector<std::pair<int, int>> want_pairs;
    for (const BeamChoice& c : step(logits, kVocab, scores))
      got_pairs.emplace_back(c.parent, c.token);
    for (const BeamChoice& c : want) want_pairs.emplace_back(c.parent, c.token);
    EXPECT_THAT(got_pairs, ::testing::UnorderedElementsAreArray(want_pairs)) << seed;
  }
}

TEST(BeamStep, FromOneHistoryEachBeamTakesItsOwnToken) {
  const std::vector<float> logits = {0.5f, 2.0f, -1.0f, 2.0f, 1.0f, -30.0f};
  const std::vector<BeamChoice> chosen = step(logits, 6, std::vector<double>{0, 0, 0});
  std::vector<int> tokens;
  for (std::size_t i = 0; i < 3; ++i) {
    EXPECT_EQ(chosen[i].parent, static_cast<int>(i));
    tokens.push_back(chosen[i].token);
  }
  EXPECT_THAT(tokens, ElementsAre(1, 3, 4));  // 1 and 3 tie: by token
}

TEST(BeamStep, EqualScoresGoToTheFirstParent) {
  const std::vector<float> same = {1, 0, 1, 0, 1, 0};  // three beams, two tokens
  const std::vector<BeamChoice> chosen = step(same, 2, std::vector<double>{0, 0, -5});
  EXPECT_EQ(chosen[0].parent, 0);
  EXPECT_EQ(chosen[0].token, 0);
  EXPECT_EQ(chosen[1].parent, 1);
  EXPECT_EQ(chosen[1].token, 0);
  EXPECT_EQ(chosen[2].parent, 0);  // the third beam died; the first's other token takes its place
  EXPECT_EQ(chosen[2].token, 1);
}

TEST(BeamStep, ALogitThatIsNotFiniteIsABug) {
  for (const float bad : {NAN, INFINITY, -INFINITY}) {
    const std::vector<float> logits = {0, 1, bad};
    EXPECT_THROW((void)step(logits, 3, std::vector<double>{0.0}), InvariantError);
  }
}

// The histories that beams end with, against copying all of them in every step.
TEST(DrawBeams, EachBeamHasTheTokensOfTheHypothesisItContinues) {
  constexpr int kVocab = 11;
  constexpr std::size_t kWidth = 5;
  constexpr int kSteps = 40;
  Request request{.id = RequestId(3), .prompt = Tokens(7), .output = Tokens(kSteps)};
  request.decoding = {DecodingKind::beam, static_cast<int>(kWidth)};
  std::vector<SeqId> sequences;
  for (std::uint32_t i = 0; i < kWidth; ++i) sequences.emplace_back(9 - i);
  TokenHistories histories(kVocab, 1);
  std::vector<std::vector<std::int32_t>> want(kWidth);
  int died = 0;
  for (int i = 0; i < kSteps; ++i) {
    const Tokens count(i == 0 ? 7 : 1);
    const StepGroup group{&request, sequences, Tokens(7 + i) - count, count, i == 0};
    const auto logits = random_floats(kVocab * kWidth, static_cast<std::uint64_t>(i), 2);
    std::vector<TokenOut> out;
    draw_group(group, logits, kVocab, {}, 1, histories, out);
    ASSERT_EQ(out.size(), kWidth);
    const auto before = want;
    for (std::size_t beam = 0; beam < kWidth; ++beam) {
      EXPECT_EQ(out[beam].sequence, sequences[beam]);
      const auto parent = std::ranges::find(sequences, out[beam].parent) - sequences.begin();
      died += parent != static_cast<std::ptrdiff_t>(beam);
      want[beam] = before[static_cast<std::size_t>(parent)];
      want[beam].push_back(out[beam].token);
      EXPECT_EQ(histories.tokens(sequences[beam]), want[beam]);
    }
  }
  EXPECT_GT(died, kSteps);  // there was something to take over
}

}  // namespace
}  // namespace kvstow
