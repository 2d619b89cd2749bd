// kvstow_soak [OPERATIONS] [SEED] [ALLOCATOR]: random operations with every decoding mixed on each
// registered allocator, or on one (default 10 million each). Not part of ctest: minutes, not
// seconds.
//
// After EVERY operation: the shadow memory's checks on whatever the operation touched (see
// core/kv/checked_allocator.h: plan order, read-back through the views, no slot owned twice), held,
// live and logical of both tiers against the shadow, the allocator's cheap invariants.
// After every 200th and at the end: every sequence read back whole, and the allocator's full
// check, which rebuilds its state from its tables. At the end everything is released: the pools
// must be empty to the last slot. The pool and the block size change with every tenth of the
// operations.
#include <cstdio>
#include <cstdlib>
#include <iterator>
#include <string>
#include <string_view>

#include "bench/registry/allocators.h"
#include "core/kv/checked_allocator.h"
#include "tests/kv/random_ops.h"

namespace kvstow {
namespace {

struct Phase {
  Tokens slots;  // of each tier
  Tokens block;
  Tokens longest;
};

constexpr Phase kPhases[] = {
    {Tokens(1024), Tokens(16), Tokens(200)},  {Tokens(1541), Tokens(1), Tokens(200)},
    {Tokens(2058), Tokens(4), Tokens(200)},   {Tokens(2575), Tokens(16), Tokens(200)},
    {Tokens(3092), Tokens(32), Tokens(200)},  {Tokens(640), Tokens(8), Tokens(60)},
    {Tokens(4126), Tokens(1), Tokens(400)},   {Tokens(4643), Tokens(7), Tokens(400)},
    {Tokens(5160), Tokens(256), Tokens(512)}, {Tokens(983 * 16), Tokens(16), Tokens(2048)},
};

void soak(std::string_view name, const Phase& phase, std::int64_t operations, std::uint64_t seed) {
  CheckedAllocator allocator(make_allocator(name, {.device_slots = phase.slots,
                                                   .host_slots = phase.slots,
                                                   .block_tokens = phase.block,
                                                   .max_sequence = Tokens(2048)}));
  RandomOps ops(allocator, phase.longest, seed);
  for (std::int64_t done = 0, steps = 0; done < operations; done = ops.calls()) {
    ops.step();
    if (++steps % 200 == 0) allocator.check_invariants(CheckLevel::full);
  }
  allocator.check_invariants(CheckLevel::full);
  ops.drain();
  allocator.check_invariants(CheckLevel::full);
  for (const Tier tier : {Tier::device, Tier::host}) {
    const KvStats stats = allocator.stats(tier);
    KVSTOW_CHECK(stats.free() == stats.capacity && stats.logical == Tokens(0), "a slot leaked");
  }
  const auto calls = [&](AllocStatus s) { return static_cast<long long>(ops.calls(s)); };
  std::printf(
      "%-22s pool %5lld  block %3lld  longest %4lld | ok %8lld  no_memory %7lld  "
      "fragmented %7lld  never %6lld\n",
      std::string(name).c_str(), static_cast<long long>(phase.slots.count()),
      static_cast<long long>(phase.block.count()), static_cast<long long>(phase.longest.count()),
      calls(AllocStatus::ok), calls(AllocStatus::no_memory), calls(AllocStatus::fragmented),
      calls(AllocStatus::never));
  std::fflush(stdout);
}

}  // namespace
}  // namespace kvstow

int main(int argc, char** argv) {
  const std::int64_t operations = argc > 1 ? std::atoll(argv[1]) : 10'000'000;
  const std::uint64_t seed = argc > 2 ? std::strtoull(argv[2], nullptr, 10) : 1;
  constexpr auto kPhaseCount = static_cast<std::int64_t>(std::size(kvstow::kPhases));
  if (operations < kPhaseCount) {
    std::fprintf(stderr, "kvstow_soak: give at least %lld operations\n",
                 static_cast<long long>(kPhaseCount));
    return 2;
  }
  const std::string_view only = argc > 3 ? argv[3] : "";
  const kvstow::Phase* phase = kvstow::kPhases;
  std::string_view name = only;
  try {
    if (!only.empty()) (void)kvstow::make_allocator(only, {.device_slots = kvstow::Tokens(16)});
    for (const kvstow::AllocatorEntry& entry : kvstow::allocator_registry()) {
      if (!only.empty() && entry.name != only) continue;
      name = entry.name;
      for (phase = kvstow::kPhases; phase != std::end(kvstow::kPhases); ++phase) {
        kvstow::soak(name, *phase, operations / kPhaseCount, seed);
      }
    }
  } catch (const kvstow::InvariantError& error) {
    std::fprintf(stderr, "kvstow_soak: %s, pool %lld, block %lld, seed %llu: %s\n",
                 std::string(name).c_str(), static_cast<long long>(phase->slots.count()),
                 static_cast<long long>(phase->block.count()),
                 static_cast<unsigned long long>(seed), error.what());
    return 1;
  } catch (const kvstow::InputError& error) {
    std::fprintf(stderr, "kvstow_soak: %s\n", error.what());
    return 2;
  }
}
