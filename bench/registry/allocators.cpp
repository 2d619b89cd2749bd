#include "bench/registry/allocators.h"

#include <string>
#include <vector>

#include "baselines/buddy_allocator.h"
#include "baselines/contiguous_allocator.h"
#include "core/check.h"
#include "core/kv/paged_allocator.h"
#include "core/text.h"

namespace kvstow {
namespace {

// Of a class that is built from its pool alone.
template <class Allocator>
std::unique_ptr<KvAllocator> make(const PoolConfig& config) {
  return std::make_unique<Allocator>(config);
}

constexpr AllocatorEntry kAllocators[] = {
    {"paged", "block tables, reference counts, copy-on-write (vLLM)", make<PagedAllocator>},
    {"buddy", "one power-of-two chunk per sequence (Orca)", make_buddy_allocator},
    {"contiguous-first-fit", "one extent per sequence, lowest address that fits",
     make_first_fit_allocator},
    {"contiguous-best-fit", "one extent per sequence, smallest run that fits",
     make_best_fit_allocator},
};

}  // namespace

std::span<const AllocatorEntry> allocator_registry() {
  return kAllocators;
}

AllocatorTraits traits_of(std::string_view name) {
  constexpr Tokens kPrefix(512);  // of many blocks, whatever its granularity
  const auto allocator = make_allocator(
      name,
      {.device_slots = 16 * kPrefix, .block_tokens = Tokens(16), .max_sequence = 4 * kPrefix});
  const SeqId holder(0);
  const SeqId other(1);
  MemPlan plan;
  AdmitRequest request{
      .group = std::span(&holder, 1), .prompt = kPrefix, .expected_total = kPrefix};
  KVSTOW_CHECK(allocator->admit(request, plan).status == AllocStatus::ok, "no room for a prefix");
  request = {.group = std::span(&other, 1),
             .prompt = 2 * kPrefix,
             .expected_total = 4 * kPrefix,
             .prefix = holder,
             .prefix_tokens = kPrefix};
  const AllocResult result = allocator->admit(request, plan);
  KVSTOW_CHECK(result.status == AllocStatus::ok, "no room behind a prefix");
  return {.shares_prefixes = result.cached > Tokens(0),
          .reserves = allocator->view(other).capacity >= request.expected_total};
}

std::unique_ptr<KvAllocator> make_allocator(std::string_view name, const PoolConfig& config) {
  std::vector<std::string> names;
  for (const AllocatorEntry& entry : kAllocators) {
    if (entry.name == name) return entry.make(config);
    names.emplace_back(entry.name);
  }
  throw InputError("unknown allocator '" + std::string(name) + "'; the nearest is '" +
                   nearest_name(name, names) + "'");
}

}  // namespace kvstow
