// Every memory manager of the laboratory, by name. Adding one is a file of its own and a line in
// allocators.cpp, beside its #include; tests, micro-benchmarks and `kvstow list` go through this
// list.
#pragma once

#include <memory>
#include <span>
#include <string_view>

#include "core/kv/kv_allocator.h"

namespace kvstow {

struct AllocatorEntry {
  std::string_view name;  // what its name() says
  std::string_view summary;
  std::unique_ptr<KvAllocator> (*make)(const PoolConfig&);
};

[[nodiscard]] std::span<const AllocatorEntry> allocator_registry();

// What an allocator shows when one is tried on a prefix of half a prompt and on a prompt that is
// expected to double.
struct AllocatorTraits {
  bool shares_prefixes;  // maps a resident prefix into the requests that start with it
  bool reserves;         // takes the room for all that is expected when it admits
};
[[nodiscard]] AllocatorTraits traits_of(std::string_view name);

// Throws InputError on an unknown name (offers the nearest) or a pool that makes no sense.
[[nodiscard]] std::unique_ptr<KvAllocator> make_allocator(std::string_view name, const PoolConfig&);

}  // namespace kvstow
