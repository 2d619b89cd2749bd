#include "bench/verify/verify.h"

#include <algorithm>

#include "baselines/length_estimates.h"
#include "bench/registry/allocators.h"
#include "bench/verify/pool_witness.h"
#include "core/check.h"
#include "core/engine/engine.h"
#include "core/kv/checked_allocator.h"

namespace kvstow {
namespace {

class ListSource final : public TraceSource {
 public:
  explicit ListSource(std::span<const Request> requests) : requests_(requests) {}
  std::optional<Request> next() override {
    if (requests_.empty()) return std::nullopt;
    const Request& request = requests_.front();
    requests_ = requests_.subspan(1);
    return request;
  }

 private:
  std::span<const Request> requests_;
};

class CountingSink final : public MetricsSink {
 public:
  explicit CountingSink(std::size_t requests) : hashes(requests) {}
  void on_step(const StepEvent& event) override {
    preemptions += event.preemptions;
    swapped += event.swapped_out + event.swapped_in;
    copied += event.copied;
  }
  void on_token_gaps(Seconds, std::int64_t) override {}
  void on_request(const RequestEvent& event) override {
    recomputed += event.recomputed;
    if (!event.rejected) hashes.at(event.id.index()) = event.token_hash;
  }

  TokenHashes hashes;
  std::int64_t preemptions = 0;
  Tokens recomputed{0};
  Tokens swapped{0};
  Tokens copied{0};
};

// Every step takes one second, so that a run does not depend on how fast the machine is.
class SteadyTime final : public Executor {
 public:
  explicit SteadyTime(Executor& inner) : inner_(inner) {}
  void submit(const Step& step) override { inner_.submit(step); }
  StepResult wait() override { return {.elapsed = 1, .tokens = inner_.wait().tokens}; }
  [[nodiscard]] int depth() const override { return inner_.depth(); }
  [[nodiscard]] std::uint64_t token_hash(SeqId seq) const override {
    return inner_.token_hash(seq);
  }

 private:
  Executor& inner_;
};

void serve(const VerifyArm& arm, std::span<const Request> requests,
           const ExecutorFactory& make_executor, CountingSink& sink, Teacher* teacher = nullptr,
           bool witness = false) {
  std::unique_ptr<KvAllocator> allocator = make_allocator(arm.allocator, arm.pool);
  if (arm.decorate) allocator = arm.decorate(std::move(allocator));
  SeqIds seq_ids;
  std::unique_ptr<Scheduler> scheduler;
  if (const auto* batch = std::get_if<StaticBatchConfig>(&arm.scheduler)) {
    scheduler = std::make_unique<StaticBatchScheduler>(*batch, *allocator);
  } else {
    scheduler = std::make_unique<IterationScheduler>(std::get<IterationConfig>(arm.scheduler),
                                                     *allocator, seq_ids);
  }
  const std::unique_ptr<ComputingExecutor> executor = make_executor(arm, *allocator, teacher);
  std::optional<PoolWitness> witnessed;
  if (witness) witnessed.emplace(*executor, *allocator);
  SteadyTime timed(witness ? static_cast<Executor&>(*witnessed) : *executor);
  SimulatedClock clock;
  ListSource trace(requests);
  Engine({trace, *scheduler, *allocator, timed, clock, sink, seq_ids}).run();
  allocator->check_invariants(CheckLevel::full);
}

// A pool in which `sequences` of `total` tokens have room, with their beams' copies.
VerifyArm ample_arm(std::string name, Tokens total, int sequences) {
  const Tokens slots = (total + Tokens(1)) * (2 * sequences);
  return {.name = std::move(name),
          .allocator = "contiguous-first-fit",
          .pool = {.device_slots = slots, .block_tokens = Tokens(1), .max_sequence = total},
          .scheduler = IterationConfig{.max_batched_tokens = slots,
                                       .max_sequences = sequences,
                                       .max_model_len = total,
                                       .estimate = estimate_oracle,
                                       .share_prompt = false}};
}

VerifyArm ample_arm(const std::vector<Request>& trace) {
  int sequences = 64;  // at least: the widest request has to run
  Tokens longest{0};
  for (const Request& request : trace) {
    sequences = std::max(sequences, request.decoding.width);
    longest = max(longest, request.prompt + request.output);
  }
  return ample_arm("ample", longest, sequences);
}

// Serves the trace, and says what the arm was put to; an invariant that broke included.
void put_to_the_test(const VerifyArm& arm, const std::vector<Request>& trace,
                     const ExecutorFactory& make_executor, CountingSink& sink, ArmVerdict& verdict,
                     Teacher* teacher = nullptr) {
  verdict.name = arm.name;
  try {
    serve(arm, trace, make_executor, sink, teacher, /*witness=*/teacher != nullptr);
  } catch (const InvariantError& error) {
    verdict.error = error.what();
  }
  verdict.preemptions = sink.preemptions;
  verdict.recomputed = sink.recomputed;
  verdict.swapped = sink.swapped;
  verdict.copied = sink.copied;
}

// A token that differs says that something is wrong; the shadow memory under the same calls says
// which of them, and where.
std::string fault_of(const VerifyArm& arm, const std::vector<Request>& trace,
                     const ExecutorFactory& make_executor) {
  VerifyArm checked = arm;
  checked.decorate = [&](std::unique_ptr<KvAllocator> inner) {
    if (arm.decorate) inner = arm.decorate(std::move(inner));
    return std::make_unique<CheckedAllocator>(std::move(inner));
  };
  CountingSink sink(trace.size());
  try {
    serve(checked, trace, make_executor, sink);
  } catch (const InvariantError& error) {
    return error.what();
  }
  return "";
}

void count(const Request& request, bool compared, bool different, ArmVerdict& verdict) {
  if (!compared) {
    verdict.rejected += verdict.error.empty();
    return;
  }
  ++verdict.compared;
  verdict.tokens += request.output * request.decoding.width;
  if (different && verdict.different++ == 0) verdict.first_different = request.id;
}

}  // namespace

ExecutorFactory cpu_executors(std::shared_ptr<const CpuTransformer> model,
                              CpuExecutorConfig config) {
  config.poison = true;
  return [model = std::move(model), config](const VerifyArm&, const KvAllocator& allocator,
                                            Teacher* teacher) mutable {
    config.teacher = teacher;
    return std::make_unique<CpuExecutor>(model, allocator, config);
  };
}

TokenHashes run_arm(const VerifyArm& arm, const std::vector<Request>& trace,
                    const ExecutorFactory& make_executor) {
  CountingSink sink(trace.size());
  serve(arm, trace, make_executor, sink);
  return std::move(sink.hashes);
}

TokenHashes run_alone(const std::vector<Request>& trace, const ExecutorFactory& make_executor) {
  CountingSink sink(trace.size());
  for (const Request& request : trace) {
    const VerifyArm arm =
        ample_arm("alone", request.prompt + request.output, request.decoding.width);
    serve(arm, std::span(&request, 1), make_executor, sink);
  }
  return std::move(sink.hashes);
}

TokenHashes run_ample(const std::vector<Request>& trace, const ExecutorFactory& make_executor) {
  return run_arm(ample_arm(trace), trace, make_executor);
}

ArmVerdict verify_arm(const VerifyArm& arm, const std::vector<Request>& trace,
                      const ExecutorFactory& make_executor, const TokenHashes& reference) {
  ArmVerdict verdict;
  CountingSink sink(trace.size());
  put_to_the_test(arm, trace, make_executor, sink, verdict);
  for (std::size_t i = 0; i < trace.size(); ++i) {
    const bool both = sink.hashes[i] && reference[i];
    count(trace[i], both, both && sink.hashes[i] != reference[i], verdict);
  }
  if (!verdict.ok()) verdict.fault = fault_of(arm, trace, make_executor);
  return verdict;
}

RememberedDraws run_reference(const std::vector<Request>& trace,
                              const ExecutorFactory& make_executor, const SamplingConfig& sampling,
                              std::uint64_t seed) {
  ReferenceTeacher teacher(trace.size(), sampling, seed);
  CountingSink sink(trace.size());
  serve(ample_arm(trace), trace, make_executor, sink, &teacher);
  return teacher.take();
}

ArmVerdict verify_forced(const VerifyArm& arm, const std::vector<Request>& trace,
                         const ExecutorFactory& make_executor, const RememberedDraws& reference,
                         double tolerance) {
  ForcingTeacher teacher(reference, tolerance);
  ArmVerdict verdict;
  CountingSink sink(trace.size());
  put_to_the_test(arm, trace, make_executor, sink, verdict, &teacher);
  for (std::size_t i = 0; i < trace.size(); ++i) {
    count(trace[i], sink.hashes[i].has_value(), teacher.beyond(trace[i].id), verdict);
  }
  verdict.logits = teacher.verdict();
  if (!verdict.ok()) verdict.fault = fault_of(arm, trace, make_executor);
  return verdict;
}

}  // namespace kvstow
