// The arrays of a step's rows, one by one, and what is drawn from them: what identity tests cannot
// show, because the run that they compare with would have the same fault.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "bench/registry/allocators.h"
#include "core/check.h"
#include "core/exec/rows/computing_executor.h"
#include "core/exec/rows/group_draw.h"
#include "core/exec/rows/step_rows.h"

namespace kvstow {
namespace {

using ::testing::ElementsAre;

constexpr int kVocab = 100;

Request request_of(std::uint32_t id, int prompt, Decoding decoding = {}) {
  Request request{.id = RequestId(id), .prompt = Tokens(prompt), .output = Tokens(9)};
  request.decoding = decoding;
  return request;
}

// A decodes its third token, B and C are the samples of a prompt that is computed.
class RowsTest : public ::testing::Test {
 protected:
  void admit(const char* name) {
    allocator_ = make_allocator(name, {.device_slots = Tokens(48),
                                       .host_slots = Tokens(0),
                                       .block_tokens = Tokens(4),
                                       .max_sequence = Tokens(16)});
    MemPlan plan;
    ASSERT_EQ(
        allocator_->admit({.group = a_, .prompt = Tokens(5), .expected_total = Tokens(8)}, plan)
            .status,
        AllocStatus::ok);
    ASSERT_EQ(allocator_->grow(a_, Tokens(7), plan), AllocStatus::ok);
    ASSERT_EQ(allocator_
                  ->admit({.group = bc_,
                           .prompt = Tokens(3),
                           .expected_total = Tokens(4),
                           .share_prompt = true},
                          plan)
                  .status,
              AllocStatus::ok);
    histories_.of(a_.front(), decoding_).tokens = {11, 12};
  }
  [[nodiscard]] StepRows collected(const StepRows::Limits& limits) {
    Step step;
    step.groups = {{&decoding_, a_, Tokens(6), Tokens(1), false},
                   {&prompt_, bc_, Tokens(0), Tokens(3), true}};
    StepRows rows(*allocator_, limits);
    rows.collect(step, histories_);
    return rows;
  }
  [[nodiscard]] std::int32_t prompt_token_at(int position) const {
    return prompt_token(prompt_, Tokens(position), kVocab, 1);
  }

  static constexpr StepRows::Limits kLimits{.positions = Tokens(16), .slots = Tokens(48)};
  const std::vector<SeqId> a_{SeqId(0)};
  const std::vector<SeqId> bc_{SeqId(1), SeqId(2)};
  const Request decoding_ = request_of(0, 5);
  const Request prompt_ = request_of(1, 3, {DecodingKind::parallel, 2});
  TokenHistories histories_{kVocab, /*seed=*/1};
  std::unique_ptr<KvAllocator> allocator_;
};

TEST_F(RowsTest, PromptsComeFirstAndASharedOneOnce) {
  admit("paged");  // A has blocks 0 and 1, B and C block 2
  StepRows step = collected(kLimits);
  const ForwardRows& rows = step.rows();
  EXPECT_THAT(rows.token,
              ElementsAre(prompt_token_at(0), prompt_token_at(1), prompt_token_at(2), 12));
  EXPECT_THAT(rows.position, ElementsAre(0, 1, 2, 6));
  EXPECT_THAT(rows.slot, ElementsAre(8, 9, 10, 6));
  EXPECT_THAT(rows.prefill_begin, ElementsAre(0, 3));
  EXPECT_THAT(rows.prefill_map, ElementsAre(1));
  EXPECT_THAT(rows.prefill_first, ElementsAre(0));
  EXPECT_THAT(rows.decode_map, ElementsAre(0));
  EXPECT_THAT(rows.decode_length, ElementsAre(7));
  EXPECT_THAT(rows.decode_stable, ElementsAre(6));
  EXPECT_THAT(rows.logits, ElementsAre(3, 2));
  EXPECT_EQ(rows.map_rows, 2);
  EXPECT_EQ(rows.block_tokens, 4);
  ASSERT_EQ(rows.table_stride, 2);
  EXPECT_THAT(std::span(rows.table).first(4), ElementsAre(0, 1, 2, -1));
  ASSERT_EQ(step.draws().size(), 2U);
  EXPECT_EQ(step.draws()[0].first_row, 0);
  EXPECT_EQ(step.draws()[1].first_row, 1);
  EXPECT_EQ(step.draws()[1].rows, 1);
}

TEST_F(RowsTest, ExtentsEachGetTheWholePrompt) {
  admit("contiguous-first-fit");  // from slots 0, 8 and 12
  StepRows step = collected(kLimits);
  const ForwardRows& rows = step.rows();
  EXPECT_THAT(rows.slot, ElementsAre(8, 9, 10, 12, 13, 14, 6));
  EXPECT_THAT(rows.prefill_begin, ElementsAre(0, 3, 6));
  EXPECT_THAT(rows.prefill_map, ElementsAre(1, 2));
  EXPECT_THAT(rows.logits, ElementsAre(6, 2, 5));
  EXPECT_EQ(rows.block_tokens, 0);
  EXPECT_THAT(rows.first, ElementsAre(0, 8, 12));
  EXPECT_EQ(step.draws()[1].rows, 2);
}

TEST_F(RowsTest, AViewThatCannotBeIsABug) {
  for (const char* name : {"paged", "contiguous-first-fit"}) {
    admit(name);
    StepRows::Limits limits = kLimits;
    limits.slots = Tokens(11);
    EXPECT_THROW((void)collected(limits), InvariantError) << name;
    limits = kLimits;
    limits.positions = Tokens(6);
    EXPECT_THROW((void)collected(limits), InvariantError) << name;
    Step step;  // a ninth token, for which there is no slot
    step.groups = {{&decoding_, a_, Tokens(8), Tokens(1), false}};
    histories_.of(a_.front(), decoding_).tokens = {11, 12, 13, 14};
    EXPECT_THROW(StepRows(*allocator_, kLimits).collect(step, histories_), InvariantError) << name;
    step.groups = {{&decoding_, a_, Tokens(6), Tokens(1), false}};
    histories_.of(a_.front(), decoding_).tokens = {11};  // position 6 was never drawn
    EXPECT_THROW(StepRows(*allocator_, kLimits).collect(step, histories_), InvariantError) << name;
  }
}

TEST(TokenHistories, AnIdThatGoesToAnotherRequestStartsAnew) {
  TokenHistories histories(kVocab, 1);
  TokenHistory& first = histories.of(SeqId(0), request_of(1, 3));
  first.tokens = {4};
  first.on_their_way = 2;
  first.score = -1.5;
  EXPECT_EQ(histories.of(SeqId(0), request_of(1, 3)).tokens, std::vector<std::int32_t>{4});
  const TokenHistory& second = histories.of(SeqId(0), request_of(2, 3));
  EXPECT_TRUE(second.tokens.empty());
  EXPECT_EQ(second.on_their_way, 0);
  EXPECT_EQ(second.score, 0);
}

TEST(DrawGroup, EachSampleHasItsOwnNumbers) {
  const SamplingConfig sampling{.temperature = 1};
  const std::vector<float> logits(kVocab, 0.5f);
  const std::vector<SeqId> sequences{SeqId(4), SeqId(2), SeqId(0)};
  const Request request = request_of(7, 3, {DecodingKind::parallel, 3});
  const StepGroup group{&request, sequences, Tokens(0), Tokens(3), true};
  TokenHistories histories(kVocab, 1);
  std::vector<TokenOut> out;
  draw_group(group, logits, kVocab, sampling, 1, histories, out);
  ASSERT_EQ(out.size(), 3U);
  for (std::uint32_t i = 0; i < 3; ++i) {
    const double uniform = uniform_for(1, request.id, i, Tokens(0));
    EXPECT_EQ(out[i].token, draw_token(logits, sampling, uniform).token) << i;
    EXPECT_EQ(out[i].sequence, sequences[i]);
    EXPECT_THAT(histories.tokens(sequences[i]), ElementsAre(out[i].token));
  }
  EXPECT_NE(out[0].token, out[1].token);
  EXPECT_THROW(draw_group(group, logits, kVocab, sampling, 1, histories, out), InvariantError);
}

TEST(PoolImage, HasAllPlanesOfASlotSideBySide) {
  // Two planes of three slots of two bytes.
  const std::array<std::byte, 12> pool = [] {
    std::array<std::byte, 12> bytes{};
    for (std::size_t i = 0; i < bytes.size(); ++i) bytes[i] = static_cast<std::byte>(i);
    return bytes;
  }();
  PoolImage image;
  image.gather(pool, 2, 3);
  const auto at = [](int i) { return static_cast<std::byte>(i); };
  EXPECT_EQ(image.slot_bytes, 4U);
  EXPECT_THAT(image.slot(0), ElementsAre(at(0), at(1), at(6), at(7)));
  EXPECT_THAT(image.slot(2), ElementsAre(at(4), at(5), at(10), at(11)));
}

}  // namespace
}  // namespace kvstow
