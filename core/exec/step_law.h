// How long a step takes: a law with physical constants, each with its unit and (in devices/*.yaml)
// its source. The engine never sees it; the simulated executor does.
#pragma once

#include "core/exec/step.h"

namespace kvstow {

enum class StepForm : std::uint8_t {
  max,     // fixed + max(weight read, compute of the step's tokens) + KV read
  linear,  // fixed + weight read + compute of prompt tokens + KV read; swaps added, not overlapped
};

// Host <-> device copies of K and V.
struct LinkLaw {
  double bytes_per_s_in = 0;   // host to device
  double bytes_per_s_out = 0;  // device to host
  Seconds per_copy_in = 0;     // fixed cost of one copy call
  Seconds per_copy_out = 0;
  // Copy calls for one block: 2 x layers where every block, layer and part (K, V) is a copy of its
  // own, as in the paper; 0 where blocks are gathered and moved together.
  std::int64_t copies_per_block = 0;
};

struct StepLaw {
  StepForm form = StepForm::max;
  Seconds fixed = 0;             // per step: launches, scheduling, synchronisation
  Seconds per_group = 0;         // host work for each running group
  Seconds per_sequence = 0;      // host work for each running sequence
  Seconds weight_read = 0;       // reading the parameters once
  Seconds per_token = 0;         // one token's compute in the linear layers (max form: if longer)
  Seconds per_kv_token = 0;      // reading one context token's K and V, once for each sequence
  Seconds per_prefix_token = 0;  // the same for a token of a prefix that the whole batch reads
  Seconds per_copied_token = 0;  // device-to-device copy of one token's K and V
  Bytes kv_bytes_per_token{0};   // all layers, all devices
  Tokens block_tokens{16};       // the link's copy calls are counted in blocks of this size
  LinkLaw link;

  [[nodiscard]] Seconds link_time(Tokens in, Tokens out) const;
  [[nodiscard]] Seconds step_time(const Step&) const;
};

}  // namespace kvstow
