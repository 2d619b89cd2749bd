// The rows of a step: what kernels may read before the step has written anything.
#include "core/exec/rows/step_rows.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "core/kv/paged_allocator.h"

namespace kvstow {
namespace {

using ::testing::Each;
using ::testing::ElementsAre;
using ::testing::SizeIs;

// A prefix of 12 tokens, and a request behind it that comes back with 3 tokens drawn.
class StepRowsTest : public ::testing::Test {
 protected:
  StepRowsTest() {
    prefix_.id = request_.id = RequestId(7);
    prefix_.prompt = prefix_.prefix_tokens = request_.prefix_tokens = Tokens(12);
    prefix_.prefix = request_.prefix = PrefixId(2);
    request_.prompt = Tokens(14);
    request_.output = Tokens(9);
    MemPlan plan;
    const AdmitRequest whole{.group = holder_, .prompt = Tokens(12), .expected_total = Tokens(12)};
    const AdmitRequest behind{.group = own_,
                              .prompt = Tokens(17),
                              .expected_total = Tokens(23),
                              .prefix = holder_.front(),
                              .prefix_tokens = Tokens(12)};
    EXPECT_EQ(allocator_.admit(whole, plan).status, AllocStatus::ok);
    EXPECT_EQ(allocator_.admit(behind, plan).cached, Tokens(12));
    histories_.of(own_.front(), request_).tokens = {11, 12, 13};
  }
  [[nodiscard]] StepGroup whole_prefix() const {
    return {&prefix_, holder_, Tokens(0), Tokens(12), false, /*draws=*/false};
  }
  [[nodiscard]] StepGroup recomputed() const {
    return {&request_, own_, Tokens(12), Tokens(5), false};
  }
  const ForwardRows& rows_of(std::vector<StepGroup> groups) {
    step_.groups = std::move(groups);
    rows_.collect(step_, histories_);
    return rows_.rows();
  }
  std::vector<std::int32_t> stable(std::vector<StepGroup> groups) {
    return rows_of(std::move(groups)).decode_stable;
  }

  Step step_;
  const std::vector<SeqId> holder_{SeqId(0)};
  const std::vector<SeqId> own_{SeqId(1)};
  Request prefix_;
  Request request_;
  PagedAllocator allocator_{{.device_slots = Tokens(64),
                             .host_slots = Tokens(0),
                             .block_tokens = Tokens(4),
                             .max_sequence = Tokens(64)}};
  TokenHistories histories_{/*vocab=*/100, /*seed=*/1};
  StepRows rows_{allocator_, {.positions = Tokens(64), .slots = Tokens(64)}};
};

TEST_F(StepRowsTest, WhatEarlierStepsStoredIsStable) {
  const auto of_each = stable({recomputed()});
  EXPECT_THAT(of_each, SizeIs(3));
  EXPECT_THAT(of_each, Each(12));
}

// The prompt's last two tokens and the first drawn one, behind a prefix that draws nothing either.
TEST_F(StepRowsTest, AChunkThatIsNotTheLastHasNoLogits) {
  StepGroup chunk = recomputed();
  chunk.count = Tokens(3);
  chunk.draws = false;
  const ForwardRows& chunks = rows_of({whole_prefix(), chunk});
  EXPECT_THAT(chunks.logits, SizeIs(0));
  EXPECT_THAT(chunks.prefill_begin, ElementsAre(0, 12, 14));
  EXPECT_THAT(chunks.prefill_first, ElementsAre(0, 12));
  EXPECT_THAT(chunks.decode_length, ElementsAre(15));

  StepGroup last = recomputed();
  last.first = Tokens(15);
  last.count = Tokens(2);
  const ForwardRows& ends = rows_of({last});
  EXPECT_THAT(ends.decode_length, ElementsAre(16, 17));
  EXPECT_THAT(ends.decode_stable, ElementsAre(15, 15));
  EXPECT_THAT(ends.logits, ElementsAre(1));
}

TEST_F(StepRowsTest, NothingIsStableOnAPrefixThatTheStepComputes) {
  const auto of_each = stable({whole_prefix(), recomputed()});
  EXPECT_THAT(of_each, SizeIs(3));
  EXPECT_THAT(of_each, Each(0));
}

}  // namespace
}  // namespace kvstow
