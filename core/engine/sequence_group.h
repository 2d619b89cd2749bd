// The sequences of one request on their way through the engine: admitted, preempted, swapped and
// finished together.
#pragma once

#include <vector>

#include "core/request.h"
#include "core/types.h"

namespace kvstow {

// What a group holds beyond its live tokens, as the waste ledger last measured it: sums over the
// sequences that own their last slots (a tail shared by several is counted once).
struct GroupTail {
  Tokens valid_to{0};        // measure again when the group's length exceeds this
  Tokens reserved_until{0};  // reserved slots = reserved_until - owners * length
  Tokens internal{0};
  Tokens rounding{0};
  Tokens lingering{0};  // filled slots of a finished member of a static batch
  Tokens mapped{0};     // slots mapped by all sequences, a shared one once for each
  std::int64_t owners = 0;
};

struct SequenceGroup {
  // What every step touches stands together.
  std::vector<SeqId> sequences;  // in sample order; all of one length
  Tokens length{0};     // tokens of each that are computed, their K and V stored; 0: not admitted
  Tokens generated{0};  // output tokens drawn so far, of each sequence
  Tokens shared_prefix{0};   // leading tokens whose slots belong to a resident prefix
  Seconds first_token = -1;  // -1: not yet
  Seconds paused_at = 0;     // time of the last token before the last preemption
  bool paused = false;       // preempted, and no token drawn since
  GroupTail tail{};  // the ledger's; whoever takes the group's memory away or ends it clears it

  Request request;
  Tokens expected_total{0};      // prompt + estimated output, as asked of the allocator
  Seconds first_scheduled = -1;  // -1: not yet
  int preemptions = 0;
  Tokens lost{0};        // tokens of each whose K and V preemptions have dropped
  Tokens recomputed{0};  // of them, computed again

  // The true length each sequence is heading for. (Its last output token is never fed back, so one
  // slot less is filled; the paper counts it, section 6.1, and so do we.)
  [[nodiscard]] Tokens true_total() const { return request.prompt + request.output; }
  // Tokens that exist: what a (re)admission has to hold and compute.
  [[nodiscard]] Tokens existing() const { return request.prompt + generated; }
  // Of them, not computed yet: one while the group decodes.
  [[nodiscard]] Tokens to_compute() const { return existing() - length; }
  // There is more of its prompt to compute, or after a preemption of what follows it.
  [[nodiscard]] bool prefilling() const {
    return to_compute() > Tokens(generated == Tokens(0) ? 0 : 1);
  }
  [[nodiscard]] std::int64_t width() const { return static_cast<std::int64_t>(sequences.size()); }
  [[nodiscard]] bool done() const { return generated >= request.output; }
  // Done in an earlier step and still resident: waits for its static batch. (A prefix has no
  // output.)
  [[nodiscard]] bool lingers() const { return done() && request.output > Tokens(0); }
};

}  // namespace kvstow
