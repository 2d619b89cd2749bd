// Cache operations beside a plain copy of the same bytes: writes of new tokens, the copies of a
// MemPlan, swaps through the staging buffer and block by block.
#include <algorithm>
#include <array>
#include <memory>
#include <string>

#include "bench/kernels_cuda/lab.h"
#include "bench/kernels_cuda/plain.h"
#include "kernels/cuda/cache_ops.h"
#include "tests/cuda/placement.h"

namespace kvstow::bench {
namespace {

using kernels::DType;
using kernels::KvLayout;
namespace cuda = kernels::cuda;
using cuda::testing::DeviceArray;
using cuda::testing::shuffled;

// In a chain like the kernel's: launch i copies a slice of its own.
ChainTime plain_copies(std::size_t bytes, int launches) {
  Lab& lab = Lab::get();
  auto* data = reinterpret_cast<unsigned char*>(lab.numbers(2 * bytes * launches));
  return time_chain(launches, lab.stream, [&](int i, cudaStream_t s) {
    plain_copy(data + 2 * i * bytes, data + (2 * i + 1) * bytes, bytes, lab.sms, s);
  });
}

void report_against_copy(benchmark::State& state, const ChainTime& time, std::size_t bytes) {
  const ChainTime copy = plain_copies(bytes, time.launches);
  report(state, time);
  state.counters["bytes"] = 2.0 * static_cast<double>(bytes);  // read and written
  state.counters["copy_us"] = copy.median_us;
  state.counters["over_copy"] = time.median_us / copy.median_us;
  state.counters["gb_per_s"] = 2.0 * static_cast<double>(bytes) / time.median_us / 1e3;
}

// K and V of `rows` tokens to slots in random order, a layer and rows of its own in each launch.
void run_write(benchmark::State& state, const ModelShape& m, int rows) {
  for (auto _ : state) {
    Lab& lab = Lab::get();
    const std::size_t width = static_cast<std::size_t>(m.kv_heads * m.head_dim);
    const std::size_t bytes = 4 * width * static_cast<std::size_t>(rows);
    const int launches = chain_launches(2.0 * static_cast<double>(bytes));
    const KvLayout layout{launches, m.kv_heads, m.head_dim, rows, DType::f16};
    std::uint16_t* numbers = lab.numbers(2 * bytes * static_cast<std::size_t>(launches));
    const auto order = shuffled(rows, 5);
    const DeviceArray<std::int64_t> slots(std::vector<std::int64_t>(order.begin(), order.end()));
    const std::uint16_t* source = numbers + layout.elements();
    const ChainTime time = time_chain(launches, lab.stream, [&](int i, cudaStream_t s) {
      const std::uint16_t* k = source + 2 * width * rows * static_cast<std::size_t>(i);
      const auto stride = static_cast<std::int64_t>(2 * width);  // [k | v] side by side
      cuda::write_kv(
          {{numbers, layout}, i, rows, k, k + width, stride, stride, slots.get(), DType::f16}, s,
          cuda::Dependent::yes);
    });
    report_against_copy(state, time, bytes);
  }
}

// The copies of one step: `blocks` blocks of 16 tokens, all layers, one launch.
void run_plan(benchmark::State& state, int layers, const ModelShape& m, int blocks) {
  constexpr int kBlockTokens = 16;
  for (auto _ : state) {
    Lab& lab = Lab::get();
    const std::size_t bytes = std::size_t{4} * static_cast<std::size_t>(layers * m.kv_heads) *
                              static_cast<std::size_t>(m.head_dim * blocks * kBlockTokens);
    const int launches = chain_launches(2.0 * static_cast<double>(bytes));
    const std::int64_t pool_blocks = std::int64_t{2} * blocks * launches;
    const KvLayout layout{layers, m.kv_heads, m.head_dim, pool_blocks * kBlockTokens, DType::f16};
    std::uint16_t* pool = lab.numbers(static_cast<std::size_t>(layout.elements()) * 2);
    const auto order = shuffled(pool_blocks, 5);
    const ChainTime time = time_chain(launches, lab.stream, [&](int i, cudaStream_t s) {
      MemPlan plan;
      for (int b = 0; b < blocks; ++b) {
        const std::size_t at = 2 * static_cast<std::size_t>(i * blocks + b);
        plan.copy(Slot(order[at] * kBlockTokens), Slot(order[at + 1] * kBlockTokens),
                  Tokens(kBlockTokens));
      }
      cuda::copy_slots(plan.ops(), {pool, layout}, s, cuda::Dependent::yes);
    });
    report_against_copy(state, time, bytes);
  }
}

// What a swap gathers: `tokens` tokens of OPT-13B in blocks, all layers, into a staging buffer of
// its own for each launch.
void run_gather(benchmark::State& state, int tokens, int block_tokens) {
  for (auto _ : state) {
    Lab& lab = Lab::get();
    KvLayout layout{40, 40, 128, 0, DType::f16};
    const auto bytes = static_cast<std::size_t>(tokens * cuda::slot_bytes_of_all_layers(layout));
    const int launches = chain_launches(2.0 * static_cast<double>(bytes));
    const std::int64_t blocks = std::int64_t{launches} * (tokens / block_tokens);
    layout.slots = blocks * block_tokens;
    auto* pool = reinterpret_cast<unsigned char*>(lab.numbers(2 * bytes * launches));
    const auto order = shuffled(blocks, 5);
    const ChainTime time = time_chain(launches, lab.stream, [&](int i, cudaStream_t s) {
      MemPlan plan;
      for (int b = 0; b < tokens / block_tokens; ++b) {
        const auto at = static_cast<std::size_t>(i * (tokens / block_tokens) + b);
        plan.swap_out(Slot(order[at] * block_tokens), Slot(b * block_tokens), Tokens(block_tokens));
      }
      const cuda::Staging staging{pool + bytes * static_cast<std::size_t>(launches + i), tokens};
      cuda::gather_slots(plan.ops(), {pool, layout}, staging, s, cuda::Dependent::yes);
    });
    report_against_copy(state, time, bytes);
  }
}

// Microseconds between events around `run`: the median of 9 after one to warm up.
template <class Run>
ChainTime time_stream(const Run& run) {
  cudaStream_t stream = Lab::get().stream;
  cudaEvent_t begin = nullptr;
  cudaEvent_t end = nullptr;
  KVSTOW_CUDA(cudaEventCreate(&begin));
  KVSTOW_CUDA(cudaEventCreate(&end));
  std::array<double, 9> us{};
  for (int i = -1; i < static_cast<int>(us.size()); ++i) {
    KVSTOW_CUDA(cudaEventRecord(begin, stream));
    run(stream);
    KVSTOW_CUDA(cudaEventRecord(end, stream));
    KVSTOW_CUDA(cudaEventSynchronize(end));
    float milliseconds = 0;
    KVSTOW_CUDA(cudaEventElapsedTime(&milliseconds, begin, end));
    if (i >= 0) us[static_cast<std::size_t>(i)] = milliseconds * 1e3;
  }
  KVSTOW_CUDA(cudaEventDestroy(begin));
  KVSTOW_CUDA(cudaEventDestroy(end));
  std::sort(us.begin(), us.end());
  return {us[us.size() / 2], us.front(), us.back(), 1};
}

// The ceiling of large copies: the driver's own, 2 GB, on a stream.
void run_large_copy(benchmark::State& state) {
  constexpr std::size_t kBytes = std::size_t{2} << 30;
  for (auto _ : state) {
    auto* data = reinterpret_cast<unsigned char*>(Lab::get().numbers(2 * kBytes));
    const ChainTime time = time_stream([&](cudaStream_t s) {
      KVSTOW_CUDA(cudaMemcpyAsync(data + kBytes, data, kBytes, cudaMemcpyDeviceToDevice, s));
    });
    report(state, time);
    state.counters["bytes"] = 2.0 * kBytes;
    state.counters["gb_per_s"] = 2.0 * kBytes / time.median_us / 1e3;
  }
}

struct PinnedFree {
  void operator()(void* p) const { cudaFreeHost(p); }
};
using Pinned = std::unique_ptr<void, PinnedFree>;
Pinned pinned(std::size_t bytes) {
  void* p = nullptr;
  KVSTOW_CUDA(cudaMallocHost(&p, bytes));
  return Pinned(p);
}

// 256 tokens of OPT-13B (Fig. 19a) in blocks scattered over both pools.
void run_swap(benchmark::State& state, bool out, bool staged, int block_tokens) {
  constexpr int kTokens = 256;
  for (auto _ : state) {
    Lab& lab = Lab::get();
    const KvLayout layout{40, 40, 128, 4 * kTokens, DType::f16};
    const std::size_t whole = static_cast<std::size_t>(layout.elements()) * 2;
    const std::size_t bytes = whole / 4;
    auto* data = reinterpret_cast<unsigned char*>(lab.numbers(whole + bytes));
    const Pinned host = pinned(whole);
    // Random like the device's: the numbers that swaps in leave behind are other rows' K and V.
    KVSTOW_CUDA(cudaMemcpy(host.get(), data, whole, cudaMemcpyDeviceToHost));
    const auto from = shuffled(4 * kTokens / block_tokens, 5);
    const auto to = shuffled(4 * kTokens / block_tokens, 6);
    MemPlan plan;
    for (int b = 0; b < kTokens / block_tokens; ++b) {
      const Slot on_device(from[static_cast<std::size_t>(b)] * block_tokens);
      const Slot on_host(to[static_cast<std::size_t>(b)] * block_tokens);
      if (out) {
        plan.swap_out(on_device, on_host, Tokens(block_tokens));
      } else {
        plan.swap_in(on_host, on_device, Tokens(block_tokens));
      }
    }
    const kernels::KvPool pool{data, layout};
    const cuda::Staging staging{data + whole, kTokens};
    const ChainTime time = time_stream([&](cudaStream_t s) {
      if (!staged) {
        cuda::swap_block_by_block(plan.ops(), block_tokens, pool, {host.get(), layout}, s);
      } else if (out) {
        cuda::swap_out(plan.ops(), pool, {host.get(), layout}, staging, s);
      } else {
        cuda::swap_in(plan.ops(), pool, {host.get(), layout}, staging, s);
      }
    });
    const ChainTime one = time_stream([&](cudaStream_t s) {
      KVSTOW_CUDA(cudaMemcpyAsync(out ? host.get() : data, out ? data : host.get(), bytes,
                                  out ? cudaMemcpyDeviceToHost : cudaMemcpyHostToDevice, s));
    });
    report(state, time);
    state.counters["bytes"] = static_cast<double>(bytes);
    state.counters["pinned_copy_us"] = one.median_us;
    state.counters["over_pinned_copy"] = time.median_us / one.median_us;
    state.counters["gb_per_s"] = static_cast<double>(bytes) / time.median_us / 1e3;
  }
}

}  // namespace

void register_cache_benchmarks() {
  for (const ModelShape& m : {kOpt13b, kLlama3, kQwen3}) {
    for (const int rows : {1, 32, 256, 2048, 16384}) {
      add_row("write_kv/" + std::string(m.name) + "/" + std::to_string(rows),
              [=](benchmark::State& s) { run_write(s, m, rows); });
    }
  }
  for (const int blocks : {1, 4, 16, 64}) {
    add_row("copy_plan/opt-13b/" + std::to_string(blocks),
            [=](benchmark::State& s) { run_plan(s, 40, kOpt13b, blocks); });
    add_row("copy_plan/qwen3-0.6b/" + std::to_string(blocks),
            [=](benchmark::State& s) { run_plan(s, 28, kQwen3, blocks); });
  }
  for (const int tokens : {16, 64, 256, 1024}) {
    for (const int block : {1, 16}) {
      add_row("gather/opt-13b/" + std::to_string(tokens) + "/blocks_of_" + std::to_string(block),
              [=](benchmark::State& s) { run_gather(s, tokens, block); });
    }
  }
  add_row("large_copy", run_large_copy);
  for (const bool out : {true, false}) {
    for (const int tokens : {1, 2, 4, 8, 16, 32, 64, 128, 256}) {
      for (const bool staged : {true, false}) {
        add_row(std::string(out ? "swap_out/" : "swap_in/") + (staged ? "staged/" : "by_block/") +
                    std::to_string(tokens),
                [=](benchmark::State& s) { run_swap(s, out, staged, tokens); });
      }
    }
  }
}

}  // namespace kvstow::bench
