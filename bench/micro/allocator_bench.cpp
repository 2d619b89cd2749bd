// Micro-benchmarks of every registered allocator, at fills of 10 to 99 %. Times are of the calls
// alone: set-up lies outside the manually timed part. The counter `per_op` is the figure to read;
// with --benchmark_repetitions=N the statistic `min` is the one that a busy machine disturbs least.
#include <benchmark/benchmark.h>

#include <algorithm>
#include <chrono>
#include <string>

#include "bench/micro/pool_state.h"
#include "bench/registry/allocators.h"

namespace kvstow {
namespace {

constexpr std::int64_t kPoolBlocks = 65536;
constexpr SeqId::Rep kResidents = 4096;  // ids of the sequences that only fill the pool

using Make = std::unique_ptr<KvAllocator> (*)(const PoolConfig&);

// Sums the timed parts of an iteration.
class Stopwatch {
 public:
  explicit Stopwatch(benchmark::State& state) : state_(state) {}
  ~Stopwatch() {
    state_.counters["per_op"] =
        benchmark::Counter(static_cast<double>(operations_),
                           benchmark::Counter::kIsRate | benchmark::Counter::kInvert);
  }
  void start() { begin_ = std::chrono::steady_clock::now(); }
  void pause() { elapsed_ += std::chrono::steady_clock::now() - begin_; }
  void end_iteration(std::int64_t operations) {
    state_.SetIterationTime(elapsed_.count());
    elapsed_ = {};
    operations_ += operations;
  }

 private:
  benchmark::State& state_;
  std::chrono::steady_clock::time_point begin_;
  std::chrono::duration<double> elapsed_{};
  std::int64_t operations_ = 0;
};

AllocStatus admit_one(KvAllocator& allocator, SeqId id, Tokens prompt, Tokens expected,
                      MemPlan& plan) {
  const AdmitRequest request{
      .group = std::span(&id, 1), .prompt = prompt, .expected_total = expected};
  return allocator.admit(request, plan).status;
}

// What the engine's loop does: 32 sequences, each grown by `step` tokens in turn, 64 tokens in all.
// step = 1 is the cost of a token, step = 16 that of a block that opens.
void grow(benchmark::State& state, Make make) {
  constexpr SeqId::Rep kSequences = 32;
  const Tokens step(state.range(1));
  const auto allocator = make(pool_of(kPoolBlocks));
  fill_pool(*allocator, static_cast<int>(state.range(0)), kResidents);
  MemPlan plan;
  Stopwatch watch(state);
  for (auto _ : state) {
    plan.clear();
    for (SeqId::Rep i = 0; i < kSequences; ++i) {
      if (admit_one(*allocator, SeqId(i), Tokens(16), Tokens(80), plan) != AllocStatus::ok) {
        return state.SkipWithError("no extent of 5 blocks is left");
      }
    }
    watch.start();
    for (Tokens length = Tokens(16) + step; length <= Tokens(80); length += step) {
      for (SeqId::Rep i = 0; i < kSequences; ++i) {
        const SeqId id(i);
        if (allocator->grow(std::span(&id, 1), length, plan) != AllocStatus::ok) {
          return state.SkipWithError("a sequence cannot grow");
        }
        benchmark::DoNotOptimize(allocator->view(id));
      }
    }
    watch.pause();
    watch.end_iteration(std::int64_t{64} / step.count() * kSequences);
    for (SeqId::Rep i = 0; i < kSequences; ++i) allocator->release(SeqId(i), plan);
  }
}

enum class Part { admit, release };

// 32 sequences of `blocks` blocks come, then go.
void come_and_go(benchmark::State& state, Make make, Part part, std::int64_t pool_blocks) {
  constexpr SeqId::Rep kSequences = 32;
  const Tokens length = state.range(1) * kBlock;
  const auto allocator = make(pool_of(pool_blocks));
  fill_pool(*allocator, static_cast<int>(state.range(0)), kResidents);
  MemPlan plan;
  Stopwatch watch(state);
  for (auto _ : state) {
    plan.clear();
    SeqId::Rep admitted = 0;
    if (part == Part::admit) watch.start();
    while (admitted < kSequences &&
           admit_one(*allocator, SeqId(admitted), length, length, plan) == AllocStatus::ok) {
      ++admitted;
    }
    if (admitted == 0) return state.SkipWithError("nothing of this size fits at this fill");
    if (part == Part::admit) watch.pause();
    if (part == Part::release) watch.start();
    for (SeqId::Rep i = 0; i < admitted; ++i) allocator->release(SeqId(i), plan);
    if (part == Part::release) watch.pause();
    watch.end_iteration(admitted);
  }
}

// A new sequence takes over all 2048 tokens of a parent (by reference where the allocator shares).
void fork(benchmark::State& state, Make make) {
  constexpr SeqId::Rep kChildren = 32;
  const auto allocator = make(pool_of(kPoolBlocks));
  fill_pool(*allocator, static_cast<int>(state.range(0)), kResidents);
  MemPlan plan;
  const SeqId parent(0);
  if (admit_one(*allocator, parent, kLongest, kLongest, plan) != AllocStatus::ok) {
    return state.SkipWithError("no room for the parent");
  }
  Stopwatch watch(state);
  for (auto _ : state) {
    plan.clear();
    SeqId::Rep forked = 0;
    watch.start();
    for (SeqId::Rep i = 1; i <= kChildren; ++i) {
      const SeqId child(i);
      const AdmitRequest request{.group = std::span(&child, 1),
                                 .prompt = kLongest,
                                 .expected_total = kLongest,
                                 .prefix = parent,
                                 .prefix_tokens = kLongest};
      if (allocator->admit(request, plan).status != AllocStatus::ok) break;
      ++forked;
    }
    watch.pause();
    if (forked == 0) return state.SkipWithError("no room for a child");
    watch.end_iteration(forked);
    for (SeqId::Rep i = 1; i <= forked; ++i) allocator->release(SeqId(i), plan);
  }
}

// Beam search of width 6 around 2048 tokens: one step lets the beams beyond `survivors` die, forks
// them from the survivors in turn, and grows all six by a token.
void beam_step(benchmark::State& state, Make make) {
  constexpr SeqId::Rep kWidth = 6;
  constexpr Tokens kFrom(2048 - 64), kTo(2048 + 64);
  const auto survivors = static_cast<SeqId::Rep>(state.range(1));
  PoolConfig pool = pool_of(kPoolBlocks);
  pool.max_sequence = Tokens(4096);
  const auto allocator = make(pool);
  fill_pool(*allocator, static_cast<int>(state.range(0)), kResidents);
  std::vector<SeqId> beams;
  for (SeqId::Rep i = 0; i < kWidth; ++i) beams.push_back(SeqId(i));
  std::vector<Fork> forks;
  RandomStream random(1, "beams");
  MemPlan plan;
  Stopwatch watch(state);
  for (auto _ : state) {
    plan.clear();
    const AdmitRequest request{
        .group = beams, .prompt = kFrom, .expected_total = kTo, .share_prompt = true};
    if (allocator->admit(request, plan).status != AllocStatus::ok ||
        allocator->grow(beams, kFrom + Tokens(1), plan) != AllocStatus::ok) {
      return state.SkipWithError("no room for six beams");
    }
    for (Tokens length = kFrom + Tokens(2); length <= kTo; ++length) {
      for (SeqId::Rep i = kWidth; i > 1; --i) std::swap(beams[i - 1], beams[random.below(i)]);
      forks.clear();
      for (SeqId::Rep i = survivors; i < kWidth; ++i) {
        forks.push_back({beams[i % survivors], beams[i]});
      }
      plan.clear();
      watch.start();
      if (allocator->reorder(forks, plan) != AllocStatus::ok ||
          allocator->grow(beams, length, plan) != AllocStatus::ok) {
        return state.SkipWithError("a beam step failed");
      }
      watch.pause();
    }
    watch.end_iteration((kTo - kFrom).count() - 1);
    for (const SeqId id : beams) allocator->release(id, plan);
  }
}

// The worst step there can be: six beams that parted after their first block, five of which die at
// once.
void beam_collapse(benchmark::State& state, Make make) {
  constexpr SeqId::Rep kWidth = 6;
  const auto allocator = make(pool_of(kPoolBlocks));
  fill_pool(*allocator, static_cast<int>(state.range(0)), kResidents);
  std::vector<SeqId> beams;
  std::vector<Fork> forks;
  for (SeqId::Rep i = 0; i < kWidth; ++i) beams.push_back(SeqId(i));
  for (SeqId::Rep i = 1; i < kWidth; ++i) forks.push_back({beams[0], beams[i]});
  MemPlan plan;
  Stopwatch watch(state);
  for (auto _ : state) {
    plan.clear();
    const AdmitRequest request{
        .group = beams, .prompt = kBlock, .expected_total = kLongest, .share_prompt = true};
    if (allocator->admit(request, plan).status != AllocStatus::ok) {
      return state.SkipWithError("no room for six beams");
    }
    for (Tokens length = kBlock + Tokens(14); length < kLongest; length += kBlock) {
      if (allocator->grow(beams, length, plan) != AllocStatus::ok) {
        return state.SkipWithError("no room for six beams");
      }
    }
    plan.clear();
    watch.start();
    if (allocator->reorder(forks, plan) != AllocStatus::ok ||
        allocator->grow(beams, kLongest - Tokens(1), plan) != AllocStatus::ok) {
      return state.SkipWithError("a beam step failed");
    }
    watch.pause();
    watch.end_iteration(1);
    for (const SeqId id : beams) allocator->release(id, plan);
  }
}

void register_all() {
  const std::vector<std::int64_t> fills = {10, 50, 90, 99};
  const auto least = [](const std::vector<double>& times) {
    return *std::min_element(times.begin(), times.end());
  };
  const auto add = [&](const std::string& what, std::string_view name, auto run) {
    return benchmark::RegisterBenchmark((what + "/" + std::string(name)).c_str(), run)
        ->UseManualTime()
        ->ComputeStatistics("min", least);
  };
  for (const AllocatorEntry& entry : allocator_registry()) {
    const Make make = entry.make;
    add("grow", entry.name, [make](benchmark::State& s) { grow(s, make); })
        ->ArgNames({"fill", "tokens"})
        ->ArgsProduct({fills, {1, 16}});
    add("admit", entry.name,
        [make](benchmark::State& s) { come_and_go(s, make, Part::admit, kPoolBlocks); })
        ->ArgNames({"fill", "blocks"})
        ->ArgsProduct({fills, {1, 8, 32, 128}});
    add("release", entry.name,
        [make](benchmark::State& s) { come_and_go(s, make, Part::release, kPoolBlocks); })
        ->ArgNames({"fill", "blocks"})
        ->ArgsProduct({fills, {1, 8, 32, 128}});
    add("fork", entry.name, [make](benchmark::State& s) { fork(s, make); })
        ->ArgName("fill")
        ->ArgsProduct({fills});
    add("beam_step", entry.name, [make](benchmark::State& s) { beam_step(s, make); })
        ->ArgNames({"fill", "survivors"})
        ->ArgsProduct({fills, {1, 3, 5}});
    add("beam_collapse", entry.name, [make](benchmark::State& s) { beam_collapse(s, make); })
        ->ArgName("fill")
        ->ArgsProduct({fills});
    for (const std::int64_t blocks : {1 << 10, 1 << 12, 1 << 14, 1 << 16, 1 << 18, 1 << 20}) {
      add("pool_" + std::to_string(blocks), entry.name,
          [make, blocks](benchmark::State& s) { come_and_go(s, make, Part::admit, blocks); })
          ->ArgNames({"fill", "blocks"})
          ->Args({90, 4});
    }
  }
}

}  // namespace
}  // namespace kvstow

int main(int argc, char** argv) {
  kvstow::register_all();
  benchmark::Initialize(&argc, argv);
  if (benchmark::ReportUnrecognizedArguments(argc, argv)) return 2;
  benchmark::RunSpecifiedBenchmarks();
  benchmark::Shutdown();
}
