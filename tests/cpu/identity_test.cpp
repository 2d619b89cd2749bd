// The same tokens, bit for bit, as each request run alone: under every allocator, preemption, block
// size, prefix sharing, static batches, and any number of threads.
#include <gtest/gtest.h>

#include "bench/registry/allocators.h"
#include "tests/cpu/verify_fixture.h"

namespace kvstow {
namespace {

struct Reference {
  explicit Reference(bool groups) : trace(mixed_trace(24, groups)) {}
  std::vector<Request> trace;
  ExecutorFactory model = tiny_model();
  TokenHashes hashes = run_alone(trace, model);
};

const Reference& every_decoding() {
  static const Reference shared(true);
  return shared;
}
const Reference& single_sequences() {
  static const Reference shared(false);
  return shared;
}

ArmVerdict expect_identity(const VerifyArm& arm, const Reference& r = every_decoding()) {
  const ArmVerdict verdict = verify_arm(arm, r.trace, r.model, r.hashes);
  EXPECT_EQ(verdict.error, "") << arm.name;
  EXPECT_EQ(verdict.different, 0) << arm.name << ": first request "
                                  << verdict.first_different.index();
  EXPECT_EQ(verdict.compared, std::ssize(r.trace)) << arm.name;
  return verdict;
}

TEST(Identity, RequestsDiffer) {
  TokenHashes sorted = every_decoding().hashes;
  std::sort(sorted.begin(), sorted.end());
  EXPECT_EQ(std::unique(sorted.begin(), sorted.end()), sorted.end());
}

TEST(Identity, EveryAllocatorWithEveryDecoding) {
  for (const AllocatorEntry& entry : allocator_registry()) {
    const std::string name(entry.name);
    const ArmVerdict verdict =
        expect_identity(iteration_arm(name, name, 16, Preemption::recompute));
    EXPECT_GT(verdict.copied, Tokens(0)) << name;  // or this would prove little
  }
}

TEST(Identity, EveryAllocatorWhenItsReservationsAreTooSmall) {
  for (const AllocatorEntry& entry : allocator_registry()) {
    const std::string name(entry.name);
    VerifyArm arm = iteration_arm(name, name, 16, Preemption::recompute);
    std::get<IterationConfig>(arm.scheduler).estimate = estimate_low;
    const ArmVerdict verdict = expect_identity(arm, single_sequences());
    EXPECT_GT(verdict.recomputed, Tokens(0)) << name;
  }
}

// A swapped extent may come back where it cannot grow by its next token.
TEST(Identity, EveryAllocatorSwappingReservationsThatAreTooSmall) {
  for (const AllocatorEntry& entry : allocator_registry()) {
    const std::string name(entry.name);
    VerifyArm arm = iteration_arm(name, name, 16, Preemption::swap);
    std::get<IterationConfig>(arm.scheduler).estimate = estimate_low;
    const ArmVerdict verdict = expect_identity(arm, single_sequences());
    EXPECT_GT(verdict.swapped, Tokens(0)) << name;
  }
}

TEST(Identity, Swaps) {
  for (const bool groups : {true, false}) {
    const ArmVerdict verdict =
        expect_identity(iteration_arm("paged, swap", "paged", 16, Preemption::swap),
                        groups ? every_decoding() : single_sequences());
    EXPECT_GT(verdict.swapped, Tokens(0));
    EXPECT_EQ(verdict.recomputed, Tokens(0));
  }
}

TEST(Identity, EveryBlockSize) {
  for (const int block : {1, 7, 128}) {
    VerifyArm arm = iteration_arm("paged " + std::to_string(block), "paged", block,
                                  block == 7 ? Preemption::swap : Preemption::recompute);
    // Whole sequences in one block need more of them.
    if (block == 128) arm.pool.device_slots = arm.pool.host_slots = Tokens(128 * 12);
    expect_identity(arm);
  }
}

TEST(Identity, SharedPrefixes) {
  for (const PrefixSharing sharing : {PrefixSharing::whole_blocks, PrefixSharing::copy_on_write}) {
    VerifyArm arm = iteration_arm("prefix", "paged", 16, Preemption::recompute);
    std::get<IterationConfig>(arm.scheduler).prefix = sharing;
    expect_identity(arm);
  }
}

// There is no room for the prefix beside the first request; when that has ended the second comes
// back, and what it drew before is computed in the step that computes the prefix it now lies on.
TEST(Identity, APrefixAndWhatIsRecomputedBehindItInOneStep) {
  Request first{.id = RequestId(0), .prompt = Tokens(40), .output = Tokens(80)};
  Request second{.id = RequestId(1), .prompt = Tokens(31), .output = Tokens(60)};
  second.prefix = PrefixId(0);
  second.prefix_tokens = Tokens(21);
  const std::vector<Request> trace{first, second};
  VerifyArm arm = iteration_arm("late prefix", "paged", 1, Preemption::recompute);
  arm.pool.device_slots = Tokens(135);
  std::get<IterationConfig>(arm.scheduler).prefix = PrefixSharing::whole_blocks;
  const ExecutorFactory model = tiny_model();
  const ArmVerdict verdict = verify_arm(arm, trace, model, run_alone(trace, model));
  EXPECT_EQ(verdict.error, "");
  EXPECT_EQ(verdict.different, 0);
  EXPECT_EQ(verdict.compared, 2);
  // Without a prefix it would be all that it had stored.
  EXPECT_EQ(verdict.recomputed, second.prompt + Tokens(32) - second.prefix_tokens);
}

// Wherever the budget cuts a prompt, and the generated tokens that are computed again behind it.
TEST(Identity, PromptsInChunks) {
  for (const AllocatorEntry& entry : allocator_registry()) {
    for (const Preemption preemption : {Preemption::recompute, Preemption::swap}) {
      const std::string name(entry.name);
      VerifyArm arm = iteration_arm(name + " in chunks", name, 7, preemption);
      auto& config = std::get<IterationConfig>(arm.scheduler);
      config.chunked_prefill = true;
      config.max_batched_tokens = Tokens(preemption == Preemption::swap ? 27 : 33);
      config.estimate = estimate_low;
      const ArmVerdict verdict = expect_identity(arm, single_sequences());
      EXPECT_GT(verdict.preemptions, 0) << arm.name;
    }
  }
  VerifyArm arm = iteration_arm("groups in chunks", "paged", 7, Preemption::recompute);
  auto& config = std::get<IterationConfig>(arm.scheduler);
  config.chunked_prefill = true;
  config.max_batched_tokens = Tokens(30);
  config.prefix = PrefixSharing::copy_on_write;
  EXPECT_GT(expect_identity(arm).swapped, Tokens(0));
}

TEST(Identity, StaticBatches) {
  VerifyArm arm = iteration_arm("static", "contiguous-best-fit", 1, Preemption::recompute);
  arm.pool.device_slots = Tokens(2000);
  arm.scheduler = StaticBatchConfig{.batch_size = 5, .batch_limit = Tokens(128)};
  expect_identity(arm);
}

TEST(Identity, AnAmplePoolGivesWhatEachRequestGivesAlone) {
  const Reference& r = every_decoding();
  EXPECT_EQ(run_ample(r.trace, r.model), r.hashes);
}

TEST(Identity, WhatTheReferenceRejectedIsNotCompared) {
  const Reference& r = every_decoding();
  TokenHashes reference = r.hashes;
  reference[3].reset();
  const VerifyArm arm = iteration_arm("paged", "paged", 16, Preemption::recompute);
  const ArmVerdict verdict = verify_arm(arm, r.trace, r.model, reference);
  EXPECT_EQ(verdict.different, 0);
  EXPECT_EQ(verdict.rejected, 1);
  EXPECT_EQ(verdict.compared, std::ssize(r.trace) - 1);
}

TEST(Identity, TheNumberOfThreadsDoesNotMatter) {
  const Reference& r = every_decoding();
  const VerifyArm arm = iteration_arm("paged", "paged", 16, Preemption::recompute);
  EXPECT_EQ(run_arm(arm, r.trace, tiny_model(/*threads=*/3)), r.hashes);
}

}  // namespace
}  // namespace kvstow
