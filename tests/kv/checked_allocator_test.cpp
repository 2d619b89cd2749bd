// The checker is only worth something if it catches what it is there for: each test plants one
// fault that a real allocator could have.
#include "core/kv/checked_allocator.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "bench/registry/allocators.h"
#include "core/kv/failing_allocator.h"
#include "core/kv/paged_allocator.h"

namespace kvstow {
namespace {

enum class Fault {
  none,
  copy_forgotten,  // copy-on-write without the copy
  copy_too_short,  // one token is left behind
  copy_overlaps,   // source and destination do
  freed_early,     // frees come before the reads
  freed_twice,
  view_shifted,      // a view that is off by a slot
  view_too_short,    // fewer slots than tokens
  moved_in_silence,  // a sequence that no call was about lies elsewhere
  slot_owned_twice,  // a second sequence is shown the first one's slots
  outside_pool,      // a view of slots that the pool does not have
  table_too_short,   // a view that claims more slots than its table has
  dirty_failure,     // a failed grow has already written to the plan
  dirty_statistics,  // or counted
  never_for_nothing,
  cached_without_a_prefix,
  miscounted,
  miscounted_held,
  miscounted_logical,
  over_capacity,
};

class Faulty final : public ForwardingAllocator {
 public:
  Faulty(std::unique_ptr<KvAllocator> inner, Fault fault)
      : ForwardingAllocator(std::move(inner)), fault_(fault) {}

  [[nodiscard]] bool fits_empty_pool(const AdmitRequest& request) const override {
    return fault_ != Fault::never_for_nothing && ForwardingAllocator::fits_empty_pool(request);
  }
  AllocResult admit(const AdmitRequest& request, MemPlan& plan) override {
    AllocResult result = ForwardingAllocator::admit(request, plan);
    if (fault_ == Fault::cached_without_a_prefix) result.cached = Tokens(1);
    return result;
  }
  AllocStatus grow(std::span<const SeqId> group, Tokens new_length, MemPlan& plan) override {
    MemPlan honest;
    const AllocStatus status = ForwardingAllocator::grow(group, new_length, honest);
    spoil(honest, plan);
    failed_ |= status != AllocStatus::ok;
    if (status != AllocStatus::ok && fault_ == Fault::dirty_failure) {
      plan.copy(Slot(0), Slot(64), Tokens(1));
    }
    return status;
  }
  AllocStatus swap_out(std::span<const SeqId> group, MemPlan& plan) override {
    MemPlan honest;
    const AllocStatus status = ForwardingAllocator::swap_out(group, honest);
    spoil(honest, plan);
    return status;
  }
  KvView view(SeqId id) const override {
    if (fault_ == Fault::slot_owned_twice && id == SeqId(2)) {
      return ForwardingAllocator::view(SeqId(0));
    }
    KvView view = ForwardingAllocator::view(id);
    if (fault_ == Fault::view_too_short && grown_) view.capacity = Tokens(1);
    const bool moved = fault_ == Fault::moved_in_silence && failed_ && id == SeqId(2);
    if (moved || (fault_ == Fault::view_shifted && grown_)) {
      return {.blocks = {}, .first = view.slot(Tokens(0)) + Tokens(1), .capacity = view.capacity};
    }
    if (fault_ == Fault::outside_pool && id == SeqId(2)) {
      return {.blocks = {}, .first = Slot(60), .capacity = Tokens(8)};
    }
    if (fault_ == Fault::table_too_short) view.capacity += Tokens(4);
    return view;
  }
  KvStats stats(Tier tier) const override {
    KvStats stats = ForwardingAllocator::stats(tier);
    if (fault_ == Fault::miscounted && grown_) ++stats.live;
    if (fault_ == Fault::miscounted_held && grown_) ++stats.held;
    if (fault_ == Fault::miscounted_logical && grown_) ++stats.logical;
    if (fault_ == Fault::over_capacity && grown_) stats.cached = stats.capacity;
    if (fault_ == Fault::dirty_statistics && failed_) ++stats.in_transit;
    return stats;
  }

 private:
  static bool frees(const MemOp& op) { return op.kind == MemOpKind::free_device; }

  void spoil(const MemPlan& honest, MemPlan& plan) {
    grown_ = true;
    if (fault_ == Fault::freed_early) {
      for (const MemOp& op : honest.ops()) {
        if (frees(op)) plan.append(op);
      }
    }
    for (MemOp op : honest.ops()) {
      if (op.kind == MemOpKind::copy && fault_ == Fault::copy_forgotten) continue;
      if (op.kind == MemOpKind::copy && fault_ == Fault::copy_too_short) op.length -= Tokens(1);
      if (op.kind == MemOpKind::copy && fault_ == Fault::copy_overlaps) op.dst = op.src + Tokens(1);
      if (!frees(op) || fault_ != Fault::freed_early) plan.append(op);
      if (frees(op) && fault_ == Fault::freed_twice) plan.append(op);
    }
  }

  Fault fault_;
  bool grown_ = false;
  bool failed_ = false;
};

// Two samples share a prompt, diverge, are swapped out; a third sequence comes; grow until full.
void run(Fault fault) {
  constexpr PoolConfig kPool{.device_slots = Tokens(64),
                             .host_slots = Tokens(64),
                             .block_tokens = Tokens(4),
                             .max_sequence = Tokens(64)};
  CheckedAllocator allocator(
      std::make_unique<Faulty>(std::make_unique<PagedAllocator>(kPool), fault));
  MemPlan plan;
  const std::vector<SeqId> two = {SeqId(0), SeqId(1)};
  const std::vector<SeqId> third = {SeqId(2)};
  const AdmitRequest request{
      .group = two, .prompt = Tokens(7), .expected_total = Tokens(20), .share_prompt = true};
  ASSERT_EQ(allocator.admit(request, plan).status, AllocStatus::ok);
  ASSERT_EQ(allocator.grow(two, Tokens(8), plan), AllocStatus::ok);
  ASSERT_EQ(allocator.swap_out(two, plan), AllocStatus::ok);
  ASSERT_EQ(allocator.swap_in(two, Tokens(0), plan), AllocStatus::ok);
  ASSERT_EQ(
      allocator.admit({.group = third, .prompt = Tokens(7), .expected_total = Tokens(8)}, plan)
          .status,
      AllocStatus::ok);
  Tokens length(8);
  while (allocator.grow(two, length, plan) == AllocStatus::ok) ++length;
  allocator.check_invariants(CheckLevel::full);
  for (const SeqId id : {SeqId(0), SeqId(1), SeqId(2)}) allocator.release(id, plan);
}

std::string caught(Fault fault) {
  try {
    run(fault);
  } catch (const InvariantError& error) {
    return error.what();
  }
  return "";
}

TEST(CheckedAllocator, LetsAHonestAllocatorPass) {
  EXPECT_EQ(caught(Fault::none), "");
}

TEST(CheckedAllocator, CatchesEveryPlantedFault) {
  using testing::HasSubstr;
  EXPECT_THAT(caught(Fault::copy_forgotten), HasSubstr("read back"));
  EXPECT_THAT(caught(Fault::copy_too_short), HasSubstr("read back"));
  EXPECT_THAT(caught(Fault::copy_overlaps), HasSubstr("overlap"));
  EXPECT_THAT(caught(Fault::freed_early), HasSubstr("dead slot"));
  EXPECT_THAT(caught(Fault::freed_twice), HasSubstr("nobody holds"));
  EXPECT_THAT(caught(Fault::view_shifted), testing::Not(testing::IsEmpty()));
  EXPECT_THAT(caught(Fault::view_too_short), HasSubstr("shorter than its sequence"));
  EXPECT_THAT(caught(Fault::moved_in_silence), HasSubstr("untouched sequence changed"));
  EXPECT_THAT(caught(Fault::slot_owned_twice), HasSubstr("destroys a token"));
  EXPECT_THAT(caught(Fault::outside_pool), HasSubstr("outside the pool"));
  EXPECT_THAT(caught(Fault::table_too_short), HasSubstr("exceeds its table"));
  EXPECT_THAT(caught(Fault::dirty_failure), HasSubstr("changed the plan"));
  EXPECT_THAT(caught(Fault::dirty_statistics), HasSubstr("changed the statistics"));
  EXPECT_THAT(caught(Fault::never_for_nothing), HasSubstr("never exactly"));
  EXPECT_THAT(caught(Fault::cached_without_a_prefix), HasSubstr("more is cached"));
  EXPECT_THAT(caught(Fault::miscounted), HasSubstr("live"));
  EXPECT_THAT(caught(Fault::miscounted_held), HasSubstr("held is the number"));
  EXPECT_THAT(caught(Fault::miscounted_logical), HasSubstr("sum of the sequences' lengths"));
  EXPECT_THAT(caught(Fault::over_capacity), HasSubstr("exceed its capacity"));
}

// Ignores the watermark.
class Generous final : public ForwardingAllocator {
 public:
  using ForwardingAllocator::ForwardingAllocator;
  AllocResult admit(const AdmitRequest& request, MemPlan& plan) override {
    AdmitRequest all = request;
    all.keep_free = Tokens(0);
    return ForwardingAllocator::admit(all, plan);
  }
  AllocStatus swap_in(std::span<const SeqId> group, Tokens, MemPlan& plan) override {
    return ForwardingAllocator::swap_in(group, Tokens(0), plan);
  }
};

TEST(CheckedAllocator, CatchesAWatermarkThatIsNotKept) {
  const auto generous = [] {
    return CheckedAllocator(std::make_unique<Generous>(
        make_allocator("contiguous-first-fit", {.device_slots = Tokens(16),
                                                .host_slots = Tokens(16),
                                                .block_tokens = Tokens(4),
                                                .max_sequence = Tokens(16)})));
  };
  const std::vector<SeqId> first = {SeqId(0)}, second = {SeqId(1)};
  AdmitRequest request{.group = first, .prompt = Tokens(8), .expected_total = Tokens(8)};
  MemPlan plan;
  CheckedAllocator swapping = generous();
  ASSERT_EQ(swapping.admit(request, plan).status, AllocStatus::ok);
  ASSERT_EQ(swapping.swap_out(first, plan), AllocStatus::ok);
  CheckedAllocator admitting = generous();
  ASSERT_EQ(admitting.admit(request, plan).status, AllocStatus::ok);
  request.group = second;
  ASSERT_EQ(swapping.admit(request, plan).status, AllocStatus::ok);
  EXPECT_THROW(swapping.swap_in(first, Tokens(8), plan), InvariantError);
  request.keep_free = Tokens(8);
  EXPECT_THROW(admitting.admit(request, plan), InvariantError);
}

// Whoever wrote the fault has to find it.
TEST(CheckedAllocator, SaysWhatWasCalledAndWhatIsThereInstead) {
  using testing::AllOf;
  using testing::HasSubstr;
  EXPECT_THAT(caught(Fault::copy_forgotten),
              AllOf(HasSubstr("sequence 0 position 4, device slot 8 holds nothing"),
                    HasSubstr("in call 2, grow of sequences 0 1 to 8 tokens")));
  EXPECT_THAT(caught(Fault::slot_owned_twice),
              AllOf(HasSubstr("sequence 2 position 0, device slot 4"),
                    HasSubstr("sequence 0 reads it as position 0"), HasSubstr("admit")));
  EXPECT_THAT(caught(Fault::freed_early),
              AllOf(HasSubstr("swap_out ["), HasSubstr("it comes after operation 2 of the plan, "
                                                       "free_device [")));
  EXPECT_THAT(caught(Fault::dirty_failure), HasSubstr("copy [0, 1) -> [64, 65)"));
  EXPECT_THAT(caught(Fault::miscounted), HasSubstr("device stats say 13, the views have 12"));
}

// The fault that a prototype's buddy had: copies of a chain of forks in the wrong order.
class ReversedForks final : public ForwardingAllocator {
 public:
  using ForwardingAllocator::ForwardingAllocator;
  AllocStatus reorder(std::span<const Fork> forks, MemPlan& plan) override {
    MemPlan honest;
    const AllocStatus status = ForwardingAllocator::reorder(forks, honest);
    for (auto op = honest.ops().rbegin(); op != honest.ops().rend(); ++op) {
      plan.append(*op);
    }
    return status;
  }
};

TEST(CheckedAllocator, CatchesCopiesInTheWrongOrder) {
  CheckedAllocator allocator(
      std::make_unique<ReversedForks>(make_allocator("buddy", {.device_slots = Tokens(64),
                                                               .host_slots = Tokens(0),
                                                               .block_tokens = Tokens(4),
                                                               .max_sequence = Tokens(64)})));
  const std::vector<SeqId> beams = {SeqId(0), SeqId(1), SeqId(2)};
  const std::vector<Fork> chain = {{SeqId(0), SeqId(1)}, {SeqId(1), SeqId(2)}};
  MemPlan plan;
  ASSERT_EQ(
      allocator.admit({.group = beams, .prompt = Tokens(7), .expected_total = Tokens(8)}, plan)
          .status,
      AllocStatus::ok);
  EXPECT_THROW(allocator.reorder(chain, plan), InvariantError);
}

TEST(FailingAllocator, FailsWhenToldAndOnlyThen) {
  FailingAllocator allocator(
      std::make_unique<PagedAllocator>(PoolConfig{.device_slots = Tokens(64),
                                                  .host_slots = Tokens(0),
                                                  .block_tokens = Tokens(4),
                                                  .max_sequence = Tokens(64)}));
  const std::vector<SeqId> one = {SeqId(0)};
  const AdmitRequest request{.group = one, .prompt = Tokens(4), .expected_total = Tokens(8)};
  MemPlan plan;
  allocator.fail(1, 2, AllocStatus::fragmented);
  EXPECT_EQ(allocator.admit(request, plan).status, AllocStatus::ok);
  EXPECT_EQ(allocator.grow(one, Tokens(5), plan), AllocStatus::fragmented);
  EXPECT_EQ(allocator.grow(one, Tokens(5), plan), AllocStatus::fragmented);
  EXPECT_EQ(allocator.stats(Tier::device).live, Tokens(4));  // it never arrived
  EXPECT_EQ(allocator.grow(one, Tokens(5), plan), AllocStatus::ok);
  EXPECT_EQ(allocator.failures(), 2);
}

}  // namespace
}  // namespace kvstow
