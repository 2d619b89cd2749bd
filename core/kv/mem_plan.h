// The data movement that allocator decisions ask for, in the order in which it must happen.
#pragma once

#include <vector>

#include "core/types.h"

namespace kvstow {

enum class Tier : std::uint8_t { device, host };

enum class MemOpKind : std::uint8_t {
  copy,         // device [src, +length) -> device [dst, +length); the two never overlap
  swap_out,     // device [src, +length) -> host   [dst, +length)
  swap_in,      // host   [src, +length) -> device [dst, +length)
  free_device,  // device [src, +length) may be given away again; its content is dead
  free_host,    // host   [src, +length) likewise
};

// Frees move nothing.
[[nodiscard]] constexpr bool is_free(MemOpKind kind) {
  return kind == MemOpKind::free_device || kind == MemOpKind::free_host;
}

struct MemOp {
  MemOpKind kind;
  Slot src;
  Slot dst;  // unused by the free operations
  Tokens length;
};

// ORDERED: a freed extent may be the destination of a later operation. Run it in order, or keep
// frees quarantined until it has drained. (Running a buddy's copies in reverse corrupted thousands
// of sequences in a prototype; in order, none.)
class MemPlan {
 public:
  void copy(Slot src, Slot dst, Tokens length) { append({MemOpKind::copy, src, dst, length}); }
  void swap_out(Slot src, Slot dst, Tokens length) {
    append({MemOpKind::swap_out, src, dst, length});
  }
  void swap_in(Slot src, Slot dst, Tokens length) {
    append({MemOpKind::swap_in, src, dst, length});
  }
  void free(Tier tier, Slot first, Tokens length) {
    append({tier == Tier::device ? MemOpKind::free_device : MemOpKind::free_host, first, Slot(),
            length});
  }
  void append(const MemOp& op) {
    if (op.length > Tokens(0)) ops_.push_back(op);
  }

  // Slots moved, by kind.
  struct Moved {
    Tokens copied{0};
    Tokens out{0};
    Tokens in{0};
  };
  [[nodiscard]] Moved moved() const {
    Moved sum;
    for (const MemOp& op : ops_) {
      if (op.kind == MemOpKind::copy) sum.copied += op.length;
      if (op.kind == MemOpKind::swap_out) sum.out += op.length;
      if (op.kind == MemOpKind::swap_in) sum.in += op.length;
    }
    return sum;
  }

  [[nodiscard]] const std::vector<MemOp>& ops() const { return ops_; }
  [[nodiscard]] bool empty() const { return ops_.empty(); }
  void clear() { ops_.clear(); }
  void swap(MemPlan& other) noexcept { ops_.swap(other.ops_); }

 private:
  std::vector<MemOp> ops_;
};

}  // namespace kvstow
