#include "bench/experiment/system.h"

namespace kvstow {
namespace {

void read_allocator(const ConfigNode& node, SystemConfig& system) {
  const ConfigMap map(node, {"name", "block_tokens", "watermark_share", "share_prompt"});
  system.allocator = map.at("name").text();
  system.block_tokens = Tokens(map.at("block_tokens").count_at_least(1));
  if (const auto share = map.find("watermark_share")) {
    system.watermark_share = share->number_at_least(0);
    if (system.watermark_share >= 1) share->fail("must be below 1");
  }
  if (const auto shared = map.find("share_prompt")) system.share_prompt = shared->boolean();
}

std::map<std::string, std::map<std::string, std::int64_t>> read_batch_sizes(
    const ConfigNode& node) {
  std::map<std::string, std::map<std::string, std::int64_t>> sizes;
  const ConfigMap models(node);
  for (const auto& [model, datasets] : models.entries()) {
    const ConfigMap of_model(datasets);
    for (const auto& [dataset, size] : of_model.entries()) {
      sizes[model][dataset] = size.count_at_least(1);
    }
  }
  return sizes;
}

void read_scheduler(const ConfigNode& node, SystemConfig& system) {
  const ConfigMap any(node);
  system.scheduler = any.at("name").choice<SchedulerKind>("scheduler", kSchedulerNames);
  if (system.scheduler == SchedulerKind::iteration_fcfs) {
    const ConfigMap map(node, {"name", "max_batched_tokens", "max_sequences", "chunked_prefill"});
    system.max_batched_tokens = Tokens(map.at("max_batched_tokens").count_at_least(1));
    system.max_sequences = map.at("max_sequences").count_at_least(1);
    if (const auto chunked = map.find("chunked_prefill")) {
      system.chunked_prefill = chunked->boolean();
    }
  } else {
    const ConfigMap map(node, {"name", "batch_limit_tokens", "batch_sizes"});
    system.batch_limit_tokens = Tokens(map.at("batch_limit_tokens").count_at_least(1));
    system.batch_sizes = read_batch_sizes(map.at("batch_sizes"));
  }
}

}  // namespace

SystemConfig read_system(const ConfigNode& file) {
  const ConfigMap map(file, {"name", "allocator", "scheduler", "estimate", "preemption",
                             "prefix_sharing", "step_laws"});
  SystemConfig system;
  system.name = map.at("name").text();
  read_allocator(map.at("allocator"), system);
  read_scheduler(map.at("scheduler"), system);
  if (const auto estimate = map.find("estimate")) {
    system.estimate = estimate->choice<EstimateKind>("estimate", kEstimateNames);
  }
  if (const auto preemption = map.find("preemption")) {
    system.preemption = preemption->choice<Preemption>("preemption", kPreemptionNames);
  }
  if (const auto sharing = map.find("prefix_sharing")) {
    system.prefix_sharing = sharing->choice<PrefixSharing>("prefix sharing", kPrefixSharingNames);
  }
  if (const auto laws = map.find("step_laws")) {
    const ConfigMap by_law(*laws);
    for (const auto& [law, own] : by_law.entries()) system.step_laws[law] = own.text();
  }
  return system;
}

}  // namespace kvstow
