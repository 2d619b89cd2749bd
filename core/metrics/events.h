// What the engine reports. Events go in, nothing comes back.
#pragma once

#include "core/exec/step.h"
#include "core/request.h"

namespace kvstow {

// Every physical slot of a tier is in exactly one class after every step; the classes add up to the
// tier, or the engine ends the run: the waste ledger closes.
struct LedgerRow {
  Tokens live{0};        // holds a token that some sequence maps; once however many share it
  Tokens reserved{0};    // held and empty; some holder's true length will fill it
  Tokens internal{0};    // inside the requested total, never to be filled; batch padding; what a
                         // finished member still holds
  Tokens rounding{0};    // held beyond the request: block tails, buddy rounding
  Tokens cached{0};      // no holder, content kept
  Tokens in_transit{0};  // freed, its copy not drained yet
  Tokens free{0};        // the rest

  [[nodiscard]] Tokens sum() const {
    return live + reserved + internal + rounding + cached + in_transit + free;
  }
};

struct StepEvent {
  std::int64_t index = 0;
  Seconds begin = 0;
  Seconds elapsed = 0;
  const StepTotals* totals = nullptr;
  std::int64_t waiting_groups = 0;
  std::int64_t swapped_groups = 0;
  int preemptions = 0;
  bool head_fragmented = false;
  Tokens swapped_out{0};  // slots moved by this step's plan
  Tokens swapped_in{0};
  Tokens copied{0};
  LedgerRow device;
  Tokens mapped{0};  // slots mapped by all sequences, a shared one once for each
  Tokens logical{
      0};  // sum of sequence lengths on the device; logical - device.live = shared savings
};

// A request's life, reported when its last sequence is done or when it is turned away.
struct RequestEvent {
  RequestId id;
  Seconds arrival = 0;
  Seconds first_scheduled = 0;
  Seconds first_token = 0;
  Seconds finish = 0;
  Tokens prompt{0};
  Tokens output{0};
  int sequences = 1;
  int preemptions = 0;
  Tokens recomputed{0};
  std::uint64_t token_hash = 0;  // of all sequences' output tokens; 0 where none are drawn for real
  bool rejected = false;         // could never fit; the times after arrival are meaningless
};

class MetricsSink {
 public:
  virtual ~MetricsSink() = default;
  virtual void on_step(const StepEvent&) = 0;
  virtual void on_request(const RequestEvent&) = 0;
  // `count` gaps between two output tokens of the same sequence lasted `gap` each.
  virtual void on_token_gaps(Seconds gap, std::int64_t count) = 0;
};

}  // namespace kvstow
