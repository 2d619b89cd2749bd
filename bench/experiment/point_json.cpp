#include "bench/experiment/point_json.h"

#include <fmt/format.h>

#include <algorithm>
#include <fstream>
#include <map>
#include <mutex>
#include <nlohmann/json.hpp>
#include <sstream>

#include "bench/experiment/build_info.h"
#include "core/rng.h"

namespace kvstow {
namespace {

using nlohmann::json;

constexpr std::string_view kDecodingNames[] = {"single", "parallel", "beam"};

template <class Enum, std::size_t N>
std::string name_of(Enum value, const std::string_view (&names)[N]) {
  return std::string(names[static_cast<std::size_t>(value)]);
}

json model_json(const ModelConfig& model) {
  return {{"name", model.name},
          {"layers", model.layers},
          {"hidden", model.hidden},
          {"heads", model.heads},
          {"kv_heads", model.kv_heads},
          {"head_dim", model.head_dim},
          {"parameters", model.parameters},
          {"element_bytes", model.element_bytes()},
          {"max_model_len", model.max_model_len.count()},
          {"kv_bytes_per_token", model.kv_bytes_per_token().count()}};
}

json step_law_json(const StepLaw& law) {
  return {{"form", law.form == StepForm::max ? "max" : "linear"},
          {"fixed_s", law.fixed},
          {"per_group_s", law.per_group},
          {"per_sequence_s", law.per_sequence},
          {"weight_read_s", law.weight_read},
          {"per_token_s", law.per_token},
          {"per_kv_token_s", law.per_kv_token},
          {"per_prefix_token_s", law.per_prefix_token},
          {"per_copied_token_s", law.per_copied_token},
          {"link",
           {{"in_bytes_per_s", law.link.bytes_per_s_in},
            {"out_bytes_per_s", law.link.bytes_per_s_out},
            {"per_copy_in_s", law.link.per_copy_in},
            {"per_copy_out_s", law.link.per_copy_out},
            {"copies_per_block", law.link.copies_per_block}}}};
}

json system_json(const ResolvedPoint& point) {
  const SystemConfig& system = point.system;
  json out = {{"name", system.name},
              {"allocator", system.allocator},
              {"block_tokens", system.block_tokens.count()},
              {"watermark_share", system.watermark_share},
              {"share_prompt", system.share_prompt},
              {"scheduler", name_of(system.scheduler, kSchedulerNames)},
              {"estimate", name_of(system.estimate, kEstimateNames)},
              {"preemption", name_of(system.preemption, kPreemptionNames)},
              {"prefix_sharing", name_of(system.prefix_sharing, kPrefixSharingNames)}};
  if (system.scheduler == SchedulerKind::static_batch) {
    out["batch_size"] = point.batch_size;
    out["batch_limit_tokens"] = system.batch_limit_tokens.count();
  } else {
    out["max_batched_tokens"] = system.max_batched_tokens.count();
    out["max_sequences"] = system.max_sequences;
    out["chunked_prefill"] = system.chunked_prefill;
  }
  return out;
}

json workload_json(const WorkloadConfig& workload) {
  json out = {{"lengths", name_of(workload.lengths, kLengthLawNames)},
              {"arrivals", name_of(workload.arrivals, kArrivalLawNames)},
              {"rate_per_s", workload.rate_per_s},
              {"burstiness", workload.burstiness},
              {"quantum_s", workload.quantum_s},
              {"duration_s", workload.duration_s},
              {"max_requests", workload.max_requests},
              {"max_model_len", workload.max_model_len.count()},
              {"over_limit", name_of(workload.over_limit, kOverLimitNames)},
              {"scenario", name_of(workload.scenario, kScenarioNames)}};
  if (workload.lengths == LengthLaw::fixed) {
    out["prompt_tokens"] = workload.fixed_prompt.count();
    out["output_tokens"] = workload.fixed_output.count();
    out["output_cv"] = workload.output_cv;
  }
  if (!workload.file.empty()) {
    const std::size_t slash = workload.file.find_last_of('/');
    out["file"] = workload.file.substr(slash == std::string::npos ? 0 : slash + 1);
    out["file_format"] = name_of(workload.file_format, kFileFormatNames);
    out["file_rows"] = workload.file_rows;
    out["shuffle"] = workload.shuffle;
    out["chars_per_token"] = workload.chars_per_token;
  }
  if (workload.scenario == Scenario::shared_prefix) {
    out["prefix_tokens"] = workload.prefix_tokens.count();
  }
  if (workload.scenario == Scenario::chatbot) {
    out["new_conversation_probability"] = workload.p_new;
    out["history_limit_tokens"] = workload.history_limit.count();
    out["output_limit_tokens"] = workload.output_limit.count();
  }
  for (const DecodingShare& share : workload.decodings) {
    out["decodings"].push_back({{"decoding", name_of(share.decoding.kind, kDecodingNames)},
                                {"width", share.decoding.width},
                                {"weight", share.weight}});
  }
  return out;
}

std::uint64_t hash_text(std::string_view text) {
  return mix64(hash_name(text));
}

// Of the file's bytes; each file is read once for all points.
std::uint64_t hash_file(const std::string& path) {
  static std::mutex mutex;
  static std::map<std::string, std::uint64_t> known;
  const std::lock_guard lock(mutex);
  const auto found = known.find(path);
  if (found != known.end()) return found->second;
  std::ifstream in(path, std::ios::binary);
  std::ostringstream text;
  text << in.rdbuf();
  return known[path] = hash_text(text.str());
}

}  // namespace

std::string decoding_name(const WorkloadConfig& workload) {
  return workload.decodings.size() == 1
             ? name_of(workload.decodings.front().decoding.kind, kDecodingNames)
             : "mixed";
}

json config_json(const ResolvedPoint& point) {
  json out = {{"kind", name_of(point.kind, kPointKindNames)},
              {"model", model_json(point.model)},
              {"device", point.device},
              {"tensor_parallel", point.tensor_parallel},
              {"executor", point.executor},
              {"law", point.law},
              {"step_law", step_law_json(point.step_law)},
              {"pool_bytes", point.pool.count()},
              {"host_pool_bytes", point.host_pool.count()},
              {"system", system_json(point)},
              {"workload", workload_json(point.workload)},
              {"beam_death_probability", point.beam_death_probability},
              {"window_s", {point.window_from_s, point.window_to_s}},
              {"series_every_s", point.series_every_s},
              {"records", point.records},
              {"slo_ttft_s", point.slo_ttft_s},
              {"slo_tpot_s", point.slo_tpot_s},
              {"seed", point.seed}};
  if (point.stop_s > 0) out["stop_s"] = point.stop_s;
  if (point.executor != "simulated") {  // what only a real run depends on
    out["model"]["family"] = point.model.family;
    out["model"]["dtype"] = point.model.dtype;
    out["model"]["rope_theta"] = point.model.rope_theta;
    out["model"]["norm_epsilon"] = point.model.norm_epsilon;
    out["model"]["checkpoint"] = point.model.checkpoint;
    out["model"]["tied_embeddings"] = point.model.tied_embeddings;
    out["model"]["ffn"] = point.model.ffn;
    out["model"]["vocab"] = point.model.vocab;
    out["sampling"] = {{"temperature", point.sampling.temperature},
                       {"top_k", point.sampling.top_k},
                       {"top_p", point.sampling.top_p}};
    out["executor_threads"] = point.executor_threads;
    out["deterministic"] = point.deterministic;
    out["graphs"] = point.graphs;
    out["half_batches"] = name_of(point.half_batches, kHalfBatchesNames);
    out["attribution"] = point.attribution;
    if (point.profile_to > 0) out["profile_steps"] = {point.profile_from, point.profile_to};
  }
  return out;
}

json labels_json(const ResolvedPoint& point) {
  const PointLabels& labels = point.labels;
  json out = {{"figure", labels.figure},
              {"panel", labels.panel},
              {"model", point.model.name},
              {"device", point.device},
              {"executor", point.executor},
              {"dataset", labels.dataset},
              {"system", point.system.name},
              {"request_rate_per_s", point.workload.rate_per_s},
              {"seed", point.seed},
              {"law", point.law},
              {"decoding", decoding_name(point.workload)},
              {"width", point.workload.widest()},
              {"block_tokens", point.system.block_tokens.count()},
              {"preemption", name_of(point.system.preemption, kPreemptionNames)},
              {"refined", labels.refined}};
  if (labels.capacity_share > 0) out["capacity_share"] = labels.capacity_share;
  if (point.workload.lengths == LengthLaw::fixed) out["output_cv"] = point.workload.output_cv;
  if (point.workload.scenario == Scenario::chatbot) out["p_new"] = point.workload.p_new;
  if (point.workload.scenario == Scenario::shared_prefix) {
    out["prefix_tokens"] = point.workload.prefix_tokens.count();
  }
  for (const auto& [name, text] : labels.extra) {
    const json number = json::parse(text, nullptr, /*allow_exceptions=*/false);
    out[name] = number.is_number() ? number : json(text);
  }
  return out;
}

std::string point_key(const ResolvedPoint& point) {
  const BuildInfo& build = build_info();
  std::uint64_t hash = hash_text(point.labels.experiment);
  const auto mix = [&](std::uint64_t part) { hash = mix64(hash ^ part) + part; };
  mix(hash_text(labels_json(point).dump()));
  mix(hash_text(config_json(point).dump()));
  if (!point.workload.file.empty()) mix(hash_file(point.workload.file));
  mix(hash_text(build.sources + build.type + build.compiler));
  return fmt::format("{:016x}", hash);
}

}  // namespace kvstow
