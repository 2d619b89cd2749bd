// The waist of the laboratory: what a KV-cache memory manager is.
//
// An allocator decides which slots hold which tokens, and nothing else. It has no clock, no device
// and no memory of its own: it runs at millions of operations a second without a GPU. Whether to
// admit, whom to preempt and how long a request is expected to grow are decided above it.
//
// Promises every implementation keeps (tests/kv/conformance_test.cpp checks them):
//  - One call allocates, or fails and changes nothing: neither its state nor the plan.
//  - Data movement, and every slot given up, is appended to the MemPlan in an order in which it is
//    safe to run it: a slot is freed after what still reads it.
//  - No slot is mapped by two sequences unless they share the token in it. Slots lie in the pool,
//    [0, capacity) of their tier.
//  - The same calls give the same answers: no clocks, no randomness, no addresses.
// The caller's side: SeqIds are chosen by the caller, dense from 0, and recycled after release.
// Not thread-safe: one engine, one allocator.
#pragma once

#include <span>
#include <string_view>

#include "core/kv/kv_stats.h"
#include "core/kv/kv_view.h"
#include "core/kv/mem_plan.h"
#include "core/types.h"

namespace kvstow {

enum class AllocStatus : std::uint8_t {
  ok,
  no_memory,   // too little is free
  fragmented,  // enough is free, but not in a usable shape
  never,       // an empty pool could not hold it: reject, do not wait
};

template <class Stream>
Stream& operator<<(Stream& out, AllocStatus status) {
  constexpr const char* kNames[] = {"ok", "no_memory", "fragmented", "never"};
  return out << kNames[static_cast<std::size_t>(status)], out;
}

struct AllocResult {
  AllocStatus status;
  // Leading prompt tokens whose K and V are there already; the caller skips them. At most
  // prefix_tokens; less, or nothing, where the allocator shares less.
  Tokens cached{0};
};

using BlockHash = std::uint64_t;

struct AdmitRequest {
  std::span<const SeqId> group;  // the sequences of one request; not yet known to the allocator
  Tokens prompt{0};              // tokens of each sequence that exist now; > 0
  Tokens expected_total{0};      // length the engine expects each to reach; >= prompt
  Tokens keep_free{0};           // slots that must stay free afterwards (the watermark)
  bool share_prompt = false;     // the sequences start out identical and may share their slots
  // A live sequence whose leading tokens are this prompt's too, perhaps on the host, and how many
  // of them; <= prompt and <= the prefix's length. Where they are whole blocks, the step that this
  // plan belongs to may be the one that computes them, behind the plan: share them or let them be,
  // never copy them. The tokens of a partial last block are there and may be copied.
  SeqId prefix = SeqId();
  Tokens prefix_tokens{0};
  std::span<const BlockHash> keys = {};  // content keys of the prompt's blocks, for prefix caches
};

// One change of a beam step: afterwards `child` has `parent`'s tokens (its own are dropped).
struct Fork {
  SeqId parent;
  SeqId child;
};

enum class CheckLevel : std::uint8_t { cheap, full };

class KvAllocator {
 public:
  virtual ~KvAllocator() = default;

  // Whether an EMPTY pool could take this group and let it grow to expected_total, unshared, with
  // keep_free to spare. Depends on the configuration only, never on the state.
  [[nodiscard]] virtual bool fits_empty_pool(const AdmitRequest&) const = 0;

  // Takes the whole group in, each sequence at length `prompt`, or nothing of it.
  // ok | no_memory | fragmented | never (exactly when fits_empty_pool says no).
  virtual AllocResult admit(const AdmitRequest&, MemPlan&) = 0;

  // Makes room so that every sequence of the group has `new_length` tokens; absolute, so a repeated
  // call is a no-op. May append copies (copy-on-write). All or nothing; an allocator may refuse a
  // little early (vLLM refuses while fewer blocks are free than the group has sequences).
  // REQUIRES: resident on the device, new_length >= the present length.
  virtual AllocStatus grow(std::span<const SeqId> group, Tokens new_length, MemPlan&) = 0;

  // One beam step: every child takes over its parent's tokens as of BEFORE the call; parents that
  // are nobody's child survive unchanged. Always ok: it comes between two steps, where nobody can
  // be preempted for it. REQUIRES: all of one group, resident, of one length; a child appears once.
  virtual AllocStatus reorder(std::span<const Fork>, MemPlan&) = 0;

  // Moves the group to the host tier, or back. Slots that members share move once and stay shared;
  // what others share with them stays theirs where it is.
  virtual AllocStatus swap_out(std::span<const SeqId> group, MemPlan&) = 0;
  virtual AllocStatus swap_in(std::span<const SeqId> group, Tokens keep_free, MemPlan&) = 0;

  // Forgets the sequence in whichever tier it is. Never fails.
  virtual void release(SeqId, MemPlan&) = 0;

  // The map of a sequence in the tier where it is. Valid until that sequence changes.
  [[nodiscard]] virtual KvView view(SeqId) const = 0;

  // O(1).
  [[nodiscard]] virtual KvStats stats(Tier) const = 0;

  // Throws InvariantError. cheap: O(1) identities; full: rebuilds everything from the tables.
  virtual void check_invariants(CheckLevel) const = 0;

  [[nodiscard]] virtual std::string_view name() const = 0;
};

// What an allocator is built from. A pool is a number of slots; the caller has turned bytes into
// it. An allocator floors pools to whole blocks, and throws InputError on what makes no sense;
// BlockSize does both.
struct PoolConfig {
  Tokens device_slots{0};
  Tokens host_slots{0};
  Tokens block_tokens{16};    // granularity; allocators of extents round requests up to it
  Tokens max_sequence{2048};  // longest sequence the model allows
};

}  // namespace kvstow
