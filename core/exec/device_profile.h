// A device as its data sheet and a few measured shares describe it, and the step laws that follow
// for a model on it.
#pragma once

#include <map>
#include <string>

#include "core/exec/step_law.h"

namespace kvstow {

// What of a model a cost model needs to know.
struct ModelShape {
  std::string name;
  std::int64_t layers = 0;
  std::int64_t hidden = 0;
  std::int64_t parameters = 0;
  std::int64_t element_bytes = 2;
  Bytes kv_bytes_per_token{0};
  int tensor_parallel = 1;
};

// A law in terms of a device's sheet: what a model's bytes, flops and layers cost. Shares are of
// the sheet's peak rates, in (0, 1].
struct LawProfile {
  StepForm form = StepForm::max;
  Seconds host_per_layer = 0;  // fixed part: launches and the engine's own work, for each layer
  Seconds host_per_group = 0;
  Seconds host_per_sequence = 0;
  double weight_read_share = 1;  // of memory bandwidth; 0: the fixed part holds the weight read
  double compute_share = 1;      // of peak flops, in linear layers
  double kv_read_share = 1;      // of memory bandwidth, while reading K and V
  bool prefix_from_l2 = true;    // whether a shared prefix that fits there is read from L2
  std::map<std::string, double> fixed_factors;  // by model; FITTED, on the fixed part only
  // Time of reading K and V with blocks of so many tokens, as a multiple of that with blocks of 16;
  // in between, linear in log2(block). Empty: the block size costs nothing.
  std::map<std::int64_t, double> kv_time_by_block;
};

struct DeviceProfile {
  std::string name;
  double memory_bytes_per_s = 0;  // sheet
  double flops_per_s = 0;         // sheet, dense 16-bit
  double l2_bytes_per_s = 0;      // sheet; 0: unknown, then a shared prefix is read like the rest
  double l2_bytes = 0;            // sheet
  double all_reduce_bytes_per_s = 0;  // bus bandwidth of a ring all-reduce; 0: single device only
  Seconds all_reduce_latency = 0;     // of one all-reduce
  LinkLaw link;                       // host <-> one device
  std::map<std::string, LawProfile> laws;
};

// How a run lays out K and V.
struct KvShape {
  Tokens block_tokens{16};
  Tokens shared_prefix{0};  // the prefix that the whole batch reads; 0: none
};

// The law of one model on `shape.tensor_parallel` such devices. `fitted`: whether the law's fitted
// factor for this model, if there is one, is applied. A shared prefix is read from L2 where the K
// and V of its tokens in one layer fit there: all sequences of the batch read the same slots.
// REQUIRES: the profile has the law.
[[nodiscard]] StepLaw make_step_law(const DeviceProfile&, const std::string& law, const ModelShape&,
                                    const KvShape&, bool fitted = true);

}  // namespace kvstow
