// What a request costs to generate (Google Benchmark). One iteration is one request; a trace of a
// million is drained and made again.
#include <benchmark/benchmark.h>

#include "workloads/workload.h"

namespace kvstow {
namespace {

void drain(benchmark::State& state, WorkloadConfig config) {
  config.arrivals = ArrivalLaw::poisson;
  config.rate_per_s = 2;
  config.max_requests = 1'000'000;
  auto workload = make_workload(config, 1);
  for (auto _ : state) {
    auto request = workload->next();
    if (!request) {
      workload = make_workload(config, 1);
      request = workload->next();
    }
    benchmark::DoNotOptimize(request);
  }
  state.SetItemsProcessed(state.iterations());
}

void with_lengths(benchmark::State& state, LengthLaw law) {
  WorkloadConfig config;
  config.lengths = law;
  config.fixed_prompt = config.fixed_output = Tokens(100);
  drain(state, config);
}

void chatbot(benchmark::State& state) {
  WorkloadConfig config;
  config.scenario = Scenario::chatbot;
  drain(state, config);
}

BENCHMARK_CAPTURE(with_lengths, sharegpt, LengthLaw::sharegpt);
BENCHMARK_CAPTURE(with_lengths, alpaca, LengthLaw::alpaca);
BENCHMARK_CAPTURE(with_lengths, wmt_ende, LengthLaw::wmt_ende);
BENCHMARK_CAPTURE(with_lengths, fixed, LengthLaw::fixed);
BENCHMARK(chatbot);

}  // namespace
}  // namespace kvstow

BENCHMARK_MAIN();
