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

bool shares_prefixes(std::string_view name) {
  const auto allocator = make_allocator(
      name, {.device_slots = Tokens(8), .block_tokens = Tokens(1), .max_sequence = Tokens(4)});
  const SeqId holder(0);
  const SeqId other(1);
  MemPlan plan;
  AdmitRequest request{
      .group = std::span(&holder, 1), .prompt = Tokens(2), .expected_total = Tokens(2)};
  KVSTOW_CHECK(allocator->admit(request, plan).status == AllocStatus::ok, "no room for a prefix");
  request.group = std::span(&other, 1);
  request.prompt = request.expected_total = Tokens(3);
  request.prefix = holder;
  request.prefix_tokens = Tokens(2);
  return allocator->admit(request, plan).cached > Tokens(0);
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
