// The words of CheckedAllocator: what it says of groups, plans and statistics where a check failed.
#pragma once

#include <span>
#include <sstream>
#include <string>

#include "core/kv/kv_allocator.h"

namespace kvstow::checked {

// What a check's message is put together from, once it has failed.
template <class... Parts>
inline std::string say(const Parts&... parts) {
  std::ostringstream out;
  (out << ... << parts);
  return out.str();
}

inline std::string list(std::span<const SeqId> group) {
  std::string text;
  for (const SeqId id : group) text += say(text.empty() ? "" : " ", id);
  return text;
}

inline std::string list(std::span<const Fork> forks) {
  std::string text;
  for (const Fork& fork : forks)
    text += say(text.empty() ? "" : " ", fork.parent, "->", fork.child);
  return text;
}

inline const char* name_of(Tier tier) {
  return tier == Tier::device ? "device" : "host";
}

inline bool frees(const MemOp& op, Tier tier, Slot slot) {
  return op.kind == (tier == Tier::device ? MemOpKind::free_device : MemOpKind::free_host) &&
         op.src <= slot && slot < op.src + op.length;
}

inline std::string text_of(const MemPlan& plan, std::size_t op_index) {
  constexpr const char* kKinds[] = {"copy", "swap_out", "swap_in", "free_device", "free_host"};
  const MemOp& op = plan.ops()[op_index];
  const char* const kind = kKinds[static_cast<std::size_t>(op.kind)];
  const bool moves = op.kind <= MemOpKind::swap_in;
  return say("operation ", op_index, " of the plan, ", kind, " [", op.src, ", ", op.src + op.length,
             ")", moves ? say(" -> [", op.dst, ", ", op.dst + op.length, ")") : "");
}

// Which operation of the same plan has made a slot dead, where one has.
inline std::string freed_before(const MemPlan& plan, std::size_t first_op, std::size_t op,
                                Tier tier, Slot slot) {
  while (op-- > first_op) {
    if (frees(plan.ops()[op], tier, slot)) return "; it comes after " + text_of(plan, op);
  }
  return "";
}

// The first number in which two statistics of a tier differ; empty where none does.
inline std::string difference(const KvStats& before, const KvStats& after) {
  struct Number {
    const char* name;
    std::int64_t before, after;
  };
  const Number numbers[] = {
      {"capacity", before.capacity.count(), after.capacity.count()},
      {"held", before.held.count(), after.held.count()},
      {"live", before.live.count(), after.live.count()},
      {"logical", before.logical.count(), after.logical.count()},
      {"cached", before.cached.count(), after.cached.count()},
      {"in_transit", before.in_transit.count(), after.in_transit.count()},
      {"metadata", before.metadata.count(), after.metadata.count()},
  };
  for (const Number& n : numbers) {
    if (n.before != n.after) return say(n.name, " ", n.before, " became ", n.after);
  }
  return "";
}

}  // namespace kvstow::checked
