// A whole engine over a hand-written trace, with every step written down as one line of text.
#pragma once

#include <string>
#include <vector>

#include "baselines/length_estimates.h"
#include "baselines/static_batch_scheduler.h"
#include "bench/registry/allocators.h"
#include "core/engine/engine.h"
#include "core/engine/iteration_scheduler.h"
#include "core/exec/simulated_executor.h"
#include "core/kv/checked_allocator.h"
#include "core/kv/profiled_allocator.h"
#include "core/metrics/run_metrics.h"

namespace kvstow {

struct Arrival {
  Seconds arrival = 0;
  int prompt = 1;
  int output = 1;
  Decoding decoding = {};
  int prefix_tokens = 0;
};

class ListTrace final : public TraceSource {
 public:
  explicit ListTrace(std::vector<Arrival> arrivals) : arrivals_(std::move(arrivals)) {}
  std::optional<Request> next() override {
    if (next_ == arrivals_.size()) return std::nullopt;
    const Arrival& a = arrivals_[next_];
    Request request;
    request.id = RequestId(static_cast<std::uint32_t>(next_++));
    request.arrival = a.arrival;
    request.prompt = Tokens(a.prompt);
    request.output = Tokens(a.output);
    request.decoding = a.decoding;
    if (a.prefix_tokens > 0) {
      request.prefix = PrefixId(0);
      request.prefix_tokens = Tokens(a.prefix_tokens);
    }
    return request;
  }

 private:
  std::vector<Arrival> arrivals_;
  std::size_t next_ = 0;
};

// Every step takes one second and is written down. A group is its request's letter, then the tokens
// computed, [first, first + count); '*' marks tokens shared by several sequences. Plan operations
// follow: out, in, copy (tokens). "..." follows a chunk of a prompt that is not its last.
class WritingExecutor final : public Executor {
 public:
  explicit WritingExecutor(std::unique_ptr<BeamModel> beams = nullptr, int depth = 1)
      : beams_(std::move(beams)), depth_(depth) {}
  [[nodiscard]] int depth() const override { return depth_; }

  void submit(const Step& step) override {
    std::string line;
    for (const StepGroup& group : step.groups) {
      if (!line.empty()) line += ' ';
      line += group.request->output == Tokens(0)
                  ? std::string("prefix")
                  : std::string(1, static_cast<char>('A' + group.request->id.index()));
      if (group.sequences.size() > 1) line += group.shared ? "*" : "";
      line += std::to_string(group.first.count());
      if (group.count > Tokens(1)) line.append("+").append(std::to_string(group.count.count()));
      if (!group.draws && group.request->output > Tokens(0)) line += "...";
    }
    line += plan_text(step.plan);
    lines.push_back(line);
    tokens_.clear();
    for (const StepGroup& group : step.groups) {
      if (beams_ && group.draws && group.request->decoding.kind == DecodingKind::beam)
        beams_->step(group, tokens_);
    }
  }
  StepResult wait() override {
    most_in_flight = std::max(most_in_flight, std::ssize(lines) - waited_++);
    return {.elapsed = 1, .tokens = tokens_};
  }

  std::vector<std::string> lines;
  std::int64_t most_in_flight = 0;

 private:
  static std::string plan_text(const MemPlan& plan) {
    std::string text;
    for (const MemOp& op : plan.ops()) {
      const std::string length = std::to_string(op.length.count());
      if (op.kind == MemOpKind::copy) text += " copy" + length;
      if (op.kind == MemOpKind::swap_out) text += " out" + length;
      if (op.kind == MemOpKind::swap_in) text += " in" + length;
    }
    return text;
  }

  std::unique_ptr<BeamModel> beams_;
  int depth_;
  std::int64_t waited_ = 0;
  std::vector<TokenOut> tokens_;
};

// Counts how often it is asked what an empty pool could hold.
class CountingAllocator final : public ForwardingAllocator {
 public:
  CountingAllocator(std::unique_ptr<KvAllocator> inner, std::int64_t& asked)
      : ForwardingAllocator(std::move(inner)), asked_(asked) {}
  [[nodiscard]] bool fits_empty_pool(const AdmitRequest& request) const override {
    ++asked_;
    return ForwardingAllocator::fits_empty_pool(request);
  }

 private:
  std::int64_t& asked_;
};

// Remembers every event.
class KeepingSink final : public MetricsSink {
 public:
  void on_step(const StepEvent& event) override {
    steps.push_back(event);
    totals.push_back(*event.totals);
  }
  void on_request(const RequestEvent& event) override { requests.push_back(event); }
  void on_token_gaps(Seconds gap, std::int64_t count) override { gaps.emplace_back(gap, count); }

  std::vector<StepEvent> steps;
  std::vector<StepTotals> totals;
  std::vector<RequestEvent> requests;
  std::vector<std::pair<Seconds, std::int64_t>> gaps;
};

struct Played {
  std::vector<std::string> lines;
  std::int64_t most_in_flight = 0;
  KeepingSink sink;
  std::vector<HostStep> host;  // where profiled
  std::int64_t fits_asked = 0;
};

struct Laboratory {
  std::string allocator = "paged";
  PoolConfig pool{.device_slots = Tokens(24),
                  .host_slots = Tokens(48),
                  .block_tokens = Tokens(4),
                  .max_sequence = Tokens(64)};
  IterationConfig iteration{.max_batched_tokens = Tokens(64),
                            .max_sequences = 8,
                            .keep_free = Tokens(0),
                            .max_model_len = Tokens(64),
                            .estimate = estimate_oracle,
                            .block_tokens = Tokens(4)};
  std::optional<StaticBatchConfig> static_batch;
  double beam_death = 0;
  int depth = 1;  // of the executor
  bool profiled = false;
  Seconds stop_at = std::numeric_limits<Seconds>::infinity();

  [[nodiscard]] Played play(std::vector<Arrival> arrivals) const {
    ListTrace trace(std::move(arrivals));
    std::unique_ptr<KvAllocator> memory =
        std::make_unique<CheckedAllocator>(make_allocator(allocator, pool));
    HostProfile profile;
    if (profiled) memory = std::make_unique<ProfiledAllocator>(std::move(memory), profile);
    Played played;
    memory = std::make_unique<CountingAllocator>(std::move(memory), played.fits_asked);
    SeqIds ids;
    std::unique_ptr<Scheduler> scheduler;
    if (static_batch) {
      scheduler = std::make_unique<StaticBatchScheduler>(*static_batch, *memory);
    } else {
      scheduler = std::make_unique<IterationScheduler>(iteration, *memory, ids);
    }
    WritingExecutor executor(beam_death > 0 ? make_death_and_refork(beam_death, 1) : nullptr,
                             depth);
    SimulatedClock clock;
    Engine({trace, *scheduler, *memory, executor, clock, played.sink, ids, stop_at,
            profiled ? &profile : nullptr})
        .run();
    if (profiled) played.host = profile.take();
    memory->check_invariants(CheckLevel::full);
    played.lines = std::move(executor.lines);
    played.most_in_flight = executor.most_in_flight;
    return played;
  }
};

}  // namespace kvstow
