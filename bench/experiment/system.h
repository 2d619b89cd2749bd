// A system under test: a named preset of allocator, scheduler, length estimate and preemption,
// written in bench/systems/NAME.yaml and never in code.
#pragma once

#include <cstdint>
#include <map>
#include <string>

#include "core/config/yaml_reader.h"
#include "core/engine/iteration_scheduler.h"
#include "core/types.h"

namespace kvstow {

enum class SchedulerKind : std::uint8_t { iteration_fcfs, static_batch };
inline constexpr std::string_view kSchedulerNames[] = {"iteration-fcfs", "static-batch"};

// How many output tokens a scheduler tells the allocator to expect.
enum class EstimateKind : std::uint8_t { max, pow2, oracle };
inline constexpr std::string_view kEstimateNames[] = {"max", "pow2", "oracle"};

inline constexpr std::string_view kPreemptionNames[] = {"recompute", "swap"};
inline constexpr std::string_view kPrefixSharingNames[] = {"none", "whole-blocks", "copy-on-write"};

struct SystemConfig {
  std::string name;
  std::string allocator;       // name in the allocator registry
  Tokens block_tokens{16};     // any size from 1 up
  double watermark_share = 0;  // of the pool's blocks, floored: kept free by an admission
  bool share_prompt = false;   // samples of one request start out on the same slots

  SchedulerKind scheduler = SchedulerKind::iteration_fcfs;
  Tokens max_batched_tokens{2560};   // iteration-fcfs: prompts + running sequences of an iteration
  std::int64_t max_sequences = 256;  // iteration-fcfs: running sequences
  bool chunked_prefill = false;      // iteration-fcfs: prompts may take several iterations
  Tokens batch_limit_tokens{2040};   // static-batch: max(prompt) + max(output) of a batch
  // static-batch: requests of a batch, by model and dataset ("default" for any dataset).
  std::map<std::string, std::map<std::string, std::int64_t>> batch_sizes;

  EstimateKind estimate = EstimateKind::oracle;
  Preemption preemption = Preemption::recompute;
  PrefixSharing prefix_sharing = PrefixSharing::none;

  // Step laws of the device that stand for this system's own software, by the law they replace.
  std::map<std::string, std::string> step_laws;
};

[[nodiscard]] SystemConfig read_system(const ConfigNode& file);

}  // namespace kvstow
