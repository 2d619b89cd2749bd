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
  double bytes_per_s_in = 0;   // host to device, one direction busy
  double bytes_per_s_out = 0;  // device to host
  Seconds per_copy = 0;        // fixed cost of one copy call
  std::int64_t copies_per_block =
      0;  // layers x (K, V) where each block and layer is a copy of its own; 0: coalesced
};

struct StepLaw {
  StepForm form = StepForm::max;
  Seconds fixed = 0;         // per step: launches, scheduling, synchronisation
  Seconds per_group = 0;     // host work for each running group
  Seconds per_sequence = 0;  // host work for each running sequence
  Seconds weight_read = 0;   // reading the parameters once
  Seconds per_token = 0;     // compute of one token through the linear layers
  Seconds per_kv_token = 0;  // reading one context token's K and V, once for each sequence
  Seconds per_copied_token =
      0;  // device-to-device copy of one token's K and V (copy-on-write, beams)
  Seconds per_copy_launch = 0;  // once in a step that copies
  Bytes kv_bytes_per_token{0};  // whole model, all shards
  Tokens block_tokens{16};      // copies of the link are counted in blocks of this size
  LinkLaw link;

  [[nodiscard]] Seconds link_time(Tokens in, Tokens out) const;
  [[nodiscard]] Seconds step_time(const Step&) const;
};

}  // namespace kvstow
