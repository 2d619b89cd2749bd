// Which tokens an executor that runs ahead can feed back without knowing them.
#include "core/exec/rows/last_draws.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "core/check.h"

namespace kvstow {
namespace {

// A sequence with a prompt of four tokens.
class LastDrawsTest : public ::testing::Test {
 protected:
  LastDrawsTest() {
    request_.id = RequestId(7);
    request_.prompt = Tokens(4);
    request_.output = Tokens(9);
  }
  TokenHistory& history() { return histories_.of(seq_, request_); }
  [[nodiscard]] bool suffice(int first, int count) {
    Step step;
    step.groups.push_back({&request_, std::span(&seq_, 1), Tokens(first), Tokens(count), false});
    return draws_.suffice(step, histories_);
  }

  const SeqId seq_ = SeqId(3);
  const SeqId other_ = SeqId(5);
  Request request_;
  TokenHistories histories_{/*vocab=*/100, /*seed=*/1};
  LastDraws draws_;
};

TEST_F(LastDrawsTest, ADecodeFollowsTheStepBefore) {
  history().on_their_way = 2;
  draws_.replace(std::vector{other_, seq_});
  EXPECT_TRUE(suffice(5, 1));
  ForwardRows rows;
  rows.token = {42, histories_.token_at(seq_, request_, Tokens(5))};
  draws_.feed(rows);
  EXPECT_THAT(rows.token, testing::ElementsAre(42, ~1));
}

TEST_F(LastDrawsTest, ASequenceThatWasAwayForAStepHasToBeKnown) {
  history().on_their_way = 1;
  draws_.replace(std::vector{other_});
  EXPECT_FALSE(suffice(4, 1));  // swapped out and in again
  EXPECT_FALSE(suffice(0, 5));  // recomputed
  ForwardRows rows;
  rows.token = {histories_.token_at(seq_, request_, Tokens(4))};
  EXPECT_THROW(draws_.feed(rows), InvariantError);
  history().on_their_way = 0;
  history().tokens = {11};
  EXPECT_TRUE(suffice(4, 1));
  EXPECT_TRUE(suffice(0, 5));
  EXPECT_EQ(histories_.token_at(seq_, request_, Tokens(4)), 11);
}

TEST_F(LastDrawsTest, SeveralTokensOnTheirWayAreNotToldApart) {
  history().on_their_way = 2;
  draws_.replace(std::vector{seq_});
  EXPECT_FALSE(suffice(0, 6));
}

TEST_F(LastDrawsTest, EachStepReplacesTheDraws) {
  draws_.replace(std::vector{seq_});
  draws_.replace(std::vector{other_});
  history().on_their_way = 1;
  EXPECT_FALSE(suffice(4, 1));
}

}  // namespace
}  // namespace kvstow
