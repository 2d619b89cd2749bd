// The proof that a memory manager is correct: every request's tokens are the same bits under every
// system, and the same as when the request runs alone.
//
// Each arm serves the same trace for real, with K and V in the slots its allocator hands out. The
// reference is one request at a time in an ample contiguous pool: nothing shared, nothing moved,
// nothing preempted. A wrong table, a lost copy or a slot freed too early changes a token, reads a
// slot that nobody wrote (dead slots hold NaN), or breaks an invariant on the way.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <variant>
#include <vector>

#include "baselines/static_batch_scheduler.h"
#include "bench/verify/teachers.h"
#include "core/engine/iteration_scheduler.h"
#include "core/exec/cpu/cpu_executor.h"
#include "core/kv/kv_allocator.h"
#include "core/request.h"

namespace kvstow {

// One way of serving the trace.
struct VerifyArm {
  std::string name;
  std::string allocator;  // a name of the registry
  PoolConfig pool;
  std::variant<IterationConfig, StaticBatchConfig> scheduler;
  // Wraps the allocator, where set. Tests plant faults here.
  std::function<std::unique_ptr<KvAllocator>(std::unique_ptr<KvAllocator>)> decorate = nullptr;
};

// Makes the executor of an arm, for an allocator in its first state. It poisons: dead slots hold
// NaN. With a teacher, which outlives it, that one draws.
using ExecutorFactory = std::function<std::unique_ptr<ComputingExecutor>(
    const VerifyArm&, const KvAllocator&, Teacher*)>;

// The CPU's; `config.poison` and `config.teacher` are set.
[[nodiscard]] ExecutorFactory cpu_executors(std::shared_ptr<const CpuTransformer>,
                                            CpuExecutorConfig config);

// Token hash of each request of a trace, by its place there; none where it was rejected.
using TokenHashes = std::vector<std::optional<std::uint64_t>>;

// Throws InvariantError where something breaks on the way, a non-finite logit included.
[[nodiscard]] TokenHashes run_arm(const VerifyArm&, const std::vector<Request>& trace,
                                  const ExecutorFactory&);

// Every request alone.
[[nodiscard]] TokenHashes run_alone(const std::vector<Request>& trace, const ExecutorFactory&);

// All requests in one pool that holds 64 of the longest at once, contiguous, nothing shared or
// preempted: the same hashes as run_alone(), in a fraction of its time.
[[nodiscard]] TokenHashes run_ample(const std::vector<Request>& trace, const ExecutorFactory&);

struct ArmVerdict {
  std::string name;
  std::int64_t compared = 0;   // requests whose tokens were compared
  std::int64_t rejected = 0;   // could never fit, here or in the reference: nothing to compare
  Tokens tokens{0};            // drawn for those that were compared
  std::int64_t different = 0;  // requests with other tokens than the reference
  RequestId first_different;
  std::string error;  // why the arm broke off, if it did
  // Of an arm that failed: what CheckedAllocator says when it serves the same trace again; empty
  // where that finds no fault in the allocator.
  std::string fault;

  // What the arm put to the test.
  std::int64_t preemptions = 0;
  Tokens recomputed{0};  // of finished requests
  Tokens swapped{0};     // out and in
  Tokens copied{0};      // device to device

  std::optional<LogitsVerdict> logits;  // where tokens were forced; a request is different then
                                        // where a row of its logits is beyond the tolerance

  [[nodiscard]] bool ok() const { return compared > 0 && different == 0 && error.empty(); }
};

[[nodiscard]] ArmVerdict verify_arm(const VerifyArm&, const std::vector<Request>& trace,
                                    const ExecutorFactory&, const TokenHashes& reference);

// For executors whose bits depend on the batch: every arm computes the reference's tokens, the
// logits that it would have drawn from are within the tolerance, and every slot that was copied or
// swapped holds the same bits as before (pool_witness.h). The reference, in an ample pool:
[[nodiscard]] RememberedDraws run_reference(const std::vector<Request>& trace,
                                            const ExecutorFactory&, const SamplingConfig&,
                                            std::uint64_t seed);
[[nodiscard]] ArmVerdict verify_forced(const VerifyArm&, const std::vector<Request>& trace,
                                       const ExecutorFactory&, const RememberedDraws& reference,
                                       double tolerance);

}  // namespace kvstow
