#include "bench/experiment/settings.h"

#include <fmt/format.h>

#include <algorithm>
#include <limits>
#include <nlohmann/json.hpp>

#include "bench/experiment/data_root.h"
#include "bench/experiment/point_json.h"
#include "bench/experiment/real_model.h"
#include "bench/experiment/workload_config.h"
#include "bench/registry/allocators.h"
#include "core/text.h"
#include "workloads/config_check.h"

namespace kvstow {
namespace {

constexpr std::string_view kDecodingNames[] = {"single", "parallel", "beam"};
const std::vector<std::string> kExecutorNames = {"simulated", "cpu", "cuda"};

struct Draft {
  DraftPoint& result;
  ResolvedPoint& point;
  Library& library;
};

struct Setting {
  const char* name;
  void (*apply)(Draft&, const ConfigNode&);
};

void apply_device(Draft& draft, const ConfigNode& node) {
  draft.point.device = draft.library.device(node).name;
  if (const ServerConfig* server = draft.point.model.server(draft.point.device)) {
    draft.point.tensor_parallel = server->tensor_parallel;
    draft.point.pool = server->pool;
    draft.point.host_pool = server->host_pool;
  } else {
    draft.point.pool = Bytes(0);
  }
}

void apply_model(Draft& draft, const ConfigNode& node) {
  ResolvedPoint& point = draft.point;
  point.model = draft.library.model(node);
  const ServerConfig& server = point.model.servers.front();
  point.device = server.device;
  point.tensor_parallel = server.tensor_parallel;
  point.pool = server.pool;
  point.host_pool = server.host_pool;
  point.workload.max_model_len = point.model.max_model_len;
}

void apply_workload(Draft& draft, const ConfigNode& node) {
  WorkloadSpec spec = read_workload(node);
  spec.config.max_model_len = draft.point.model.max_model_len;
  draft.point.workload = std::move(spec.config);
  draft.point.labels.dataset = std::move(spec.dataset);
  draft.result.missing_file = std::move(spec.missing_file);
}

void apply_window(Draft& draft, const ConfigNode& node) {
  const std::vector<ConfigNode> ends = node.items();
  if (ends.size() != 2) node.fail("two numbers are wanted: [from, to]");
  draft.point.window_from_s = ends[0].number_at_least(0);
  draft.point.window_to_s = ends[1].number_above(draft.point.window_from_s);
}

void apply_profile_steps(Draft& draft, const ConfigNode& node) {
  const std::vector<ConfigNode> ends = node.items();
  if (ends.size() != 2) node.fail("two step numbers are wanted: [from, to]");
  draft.point.profile_from = ends[0].count_at_least(0);
  draft.point.profile_to = ends[1].integer_at_least(draft.point.profile_from + 1);
}

void apply_labels(Draft& draft, const ConfigNode& node) {
  const ConfigMap map(node);
  for (const auto& [key, value] : map.entries()) draft.point.labels.extra[key] = value.text();
}

Decoding& decoding_of(Draft& draft) {
  draft.point.workload.decodings.resize(1);
  return draft.point.workload.decodings.front().decoding;
}

// In the order of application: a model brings a server, a system its preset, then come overrides.
constexpr Setting kSettings[] = {
    {"kind",
     [](Draft& d, const ConfigNode& n) {
       d.point.kind = n.choice<PointKind>("kind", kPointKindNames);
     }},
    {"model", apply_model},
    {"device", apply_device},
    {"tensor_parallel",
     [](Draft& d, const ConfigNode& n) { d.point.tensor_parallel = n.count_at_least(1); }},
    {"executor",
     [](Draft& d, const ConfigNode& n) { d.point.executor = n.name("executor", kExecutorNames); }},
    {"law", [](Draft& d, const ConfigNode& n) { d.point.law = n.text(); }},
    {"system", [](Draft& d, const ConfigNode& n) { d.point.system = d.library.system(n); }},
    {"workload", apply_workload},
    {"pool_bytes",
     [](Draft& d, const ConfigNode& n) { d.point.pool = Bytes(n.integer_at_least(1)); }},
    {"host_pool_bytes",
     [](Draft& d, const ConfigNode& n) { d.point.host_pool = Bytes(n.integer_at_least(0)); }},
    {"block_tokens",
     [](Draft& d, const ConfigNode& n) {
       d.point.system.block_tokens = Tokens(n.count_at_least(1));
     }},
    {"watermark_share",
     [](Draft& d, const ConfigNode& n) {
       d.point.system.watermark_share = n.number_at_least(0);
       if (d.point.system.watermark_share >= 1) n.fail("must be below 1");
     }},
    {"max_batched_tokens",
     [](Draft& d, const ConfigNode& n) {
       d.point.system.max_batched_tokens = Tokens(n.count_at_least(1));
     }},
    {"max_sequences",
     [](Draft& d, const ConfigNode& n) { d.point.system.max_sequences = n.count_at_least(1); }},
    {"chunked_prefill",
     [](Draft& d, const ConfigNode& n) { d.point.system.chunked_prefill = n.boolean(); }},
    {"estimate",
     [](Draft& d, const ConfigNode& n) {
       d.point.system.estimate = n.choice<EstimateKind>("estimate", kEstimateNames);
     }},
    {"preemption",
     [](Draft& d, const ConfigNode& n) {
       d.point.system.preemption = n.choice<Preemption>("preemption", kPreemptionNames);
     }},
    {"prefix_sharing",
     [](Draft& d, const ConfigNode& n) {
       d.point.system.prefix_sharing =
           n.choice<PrefixSharing>("prefix sharing", kPrefixSharingNames);
     }},
    {"rate_per_s",
     [](Draft& d, const ConfigNode& n) { d.point.workload.rate_per_s = n.number_above(0); }},
    {"burstiness",
     [](Draft& d, const ConfigNode& n) { d.point.workload.burstiness = n.number_above(0); }},
    {"output_cv",
     [](Draft& d, const ConfigNode& n) { d.point.workload.output_cv = n.number_at_least(0); }},
    {"decoding",
     [](Draft& d, const ConfigNode& n) {
       decoding_of(d).kind = n.choice<DecodingKind>("decoding", kDecodingNames);
     }},
    {"width", [](Draft& d, const ConfigNode& n) { decoding_of(d).width = n.count_at_least(1); }},
    {"prefix_tokens",
     [](Draft& d, const ConfigNode& n) {
       d.point.workload.prefix_tokens = Tokens(n.count_at_least(1));
     }},
    {"new_conversation_probability",
     [](Draft& d, const ConfigNode& n) {
       d.point.workload.p_new = n.number_above(0);
       if (d.point.workload.p_new > 1) n.fail("must be at most 1");
     }},
    {"beam_death_probability",
     [](Draft& d, const ConfigNode& n) {
       d.point.beam_death_probability = n.number_at_least(0);
       if (d.point.beam_death_probability > 1) n.fail("must be at most 1");
     }},
    {"duration_s",
     [](Draft& d, const ConfigNode& n) { d.point.workload.duration_s = n.number_above(0); }},
    {"temperature",
     [](Draft& d, const ConfigNode& n) { d.point.sampling.temperature = n.number_at_least(0); }},
    {"top_k", [](Draft& d, const ConfigNode& n) { d.point.sampling.top_k = n.count_at_least(1); }},
    {"top_p",
     [](Draft& d, const ConfigNode& n) {
       d.point.sampling.top_p = n.number_above(0);
       if (d.point.sampling.top_p > 1) n.fail("must be at most 1");
     }},
    {"executor_threads",
     [](Draft& d, const ConfigNode& n) {
       d.point.executor_threads = n.count_at_least(1);
       if (d.point.executor_threads > 4096) n.fail("must be at most 4096");
     }},
    {"deterministic", [](Draft& d, const ConfigNode& n) { d.point.deterministic = n.boolean(); }},
    {"graphs", [](Draft& d, const ConfigNode& n) { d.point.graphs = n.boolean(); }},
    {"half_batches",
     [](Draft& d, const ConfigNode& n) {
       d.point.half_batches = n.choice<HalfBatches>("half batches", kHalfBatchesNames);
     }},
    {"profile_steps", apply_profile_steps},
    {"attribution", [](Draft& d, const ConfigNode& n) { d.point.attribution = n.boolean(); }},
    {"window_s", apply_window},
    {"stop_s", [](Draft& d, const ConfigNode& n) { d.point.stop_s = n.number_above(0); }},
    {"records", [](Draft& d, const ConfigNode& n) { d.point.records = n.boolean(); }},
    {"series_every_s",
     [](Draft& d, const ConfigNode& n) { d.point.series_every_s = n.number_above(0); }},
    {"slo_ttft_s", [](Draft& d, const ConfigNode& n) { d.point.slo_ttft_s = n.number_above(0); }},
    {"slo_tpot_s", [](Draft& d, const ConfigNode& n) { d.point.slo_tpot_s = n.number_above(0); }},
    {"labels", apply_labels},
};

// Complains at the line of a setting, or at `fallback` where the value came from elsewhere.
class Complainer {
 public:
  Complainer(const Settings& settings, const ConfigNode& fallback)
      : settings_(settings), fallback_(fallback) {}

  [[nodiscard]] const ConfigNode& at(const std::string& setting,
                                     const std::string& otherwise = "") const {
    for (const std::string& name : {setting, otherwise}) {
      const auto found = settings_.find(name);
      if (found != settings_.end()) return found->second;
    }
    return fallback_;
  }

 private:
  const Settings& settings_;
  const ConfigNode& fallback_;
};

void check_pool(const ResolvedPoint& point, const Complainer& where) {
  const Bytes per_token = point.model.kv_bytes_per_token();
  if (point.pool == Bytes(0)) {
    where.at("device").fail(
        fmt::format("{} has no server on {}; give pool_bytes and tensor_parallel", point.model.name,
                    point.device));
  }
  const Tokens longest = point.model.max_model_len;
  if (point.pool_slots() < longest) {
    where.at("pool_bytes")
        .fail(fmt::format("{} bytes hold {} tokens; one request of {} may take {} ({} bytes)",
                          point.pool.count(), point.pool_slots().count(), point.model.name,
                          longest.count(), (per_token * longest.count()).count()));
  }
  if (point.system.block_tokens > point.pool_slots()) {
    where.at("block_tokens").fail("one block is larger than the pool");
  }
  const auto check_blocks = [&](const char* key, Tokens slots) {
    if (slots / point.system.block_tokens <= std::numeric_limits<std::int32_t>::max()) return;
    where.at(key).fail("a pool cannot have more than 2^31 - 1 blocks");
  };
  check_blocks("pool_bytes", point.pool_slots());
  check_blocks("host_pool_bytes", point.host_slots());
}

void check_workload(const DraftPoint& draft, const Complainer& where) {
  const ResolvedPoint& point = draft.point;
  const WorkloadConfig& workload = point.workload;
  const bool random =
      workload.arrivals == ArrivalLaw::poisson || workload.arrivals == ArrivalLaw::gamma;
  if (random && workload.rate_per_s <= 0) {
    where.at("workload").fail("missing rate: give rate_per_s, here or in the sweep");
  }
  const bool ends_with_its_file =
      workload.lengths == LengthLaw::file || workload.arrivals == ArrivalLaw::trace;
  if (workload.duration_s <= 0 && workload.max_requests <= 0 && !ends_with_its_file) {
    where.at("workload").fail("endless: give duration_s or max_requests");
  }
  if (workload.scenario == Scenario::shared_prefix) {
    if (workload.prefix_tokens <= Tokens(0))
      where.at("workload").fail("missing key 'prefix_tokens'");
    const Tokens limit = min(point.pool_slots(), point.model.max_model_len);
    if (workload.prefix_tokens >= limit) {
      where.at("prefix_tokens", "workload")
          .fail(fmt::format("a prefix of {} tokens leaves no room; the pool holds {}, {} takes {}",
                            workload.prefix_tokens.count(), point.pool_slots().count(),
                            point.model.name, point.model.max_model_len.count()));
    }
  }
  if (!draft.missing_file.empty()) return;
  try {
    check_workload(workload);
  } catch (const InputError& error) {  // which names the key itself
    throw InputError(fmt::format("{}: {}", where.at("workload").where(), error.what()));
  }
}

void check_decodings(const ResolvedPoint& point, const Complainer& where) {
  const SystemConfig& system = point.system;
  for (const DecodingShare& share : point.workload.decodings) {
    const auto [kind, width] = share.decoding;
    if (kind == DecodingKind::single && width != 1) {
      where.at("width").fail(fmt::format("decoding single has width 1, not {}", width));
    }
    if (system.scheduler == SchedulerKind::static_batch) {
      if (width > 1) where.at("width").fail("static batches take one sequence per request");
      continue;
    }
    if (width > system.max_sequences) {
      where.at("width").fail(fmt::format("{} sequences of one request exceed {}'s cap of {}", width,
                                         system.name, system.max_sequences));
    }
  }
}

// A prefix kept for nobody would only take slots, and break up what a reservation needs whole.
void check_prefix_sharing(const SystemConfig& system, const Complainer& where) {
  if (system.prefix_sharing == PrefixSharing::none || traits_of(system.allocator).shares_prefixes) {
    return;
  }
  where.at("prefix_sharing", "system")
      .fail(fmt::format("{}'s allocator {} shares no prefix between requests", system.name,
                        system.allocator));
}

bool may_swap(const ResolvedPoint& point) {
  if (point.kind == PointKind::swap) return true;
  if (traits_of(point.system.allocator).reserves) return false;  // and so never preempts
  if (point.system.preemption == Preemption::swap) return true;
  for (const DecodingShare& share : point.workload.decodings) {
    if (share.decoding.width > 1) return true;  // groups of several are always swapped
  }
  return false;
}

void resolve_batch_size(ResolvedPoint& point, const Complainer& where) {
  if (point.system.scheduler != SchedulerKind::static_batch) return;
  const auto model = point.system.batch_sizes.find(point.model.name);
  if (model != point.system.batch_sizes.end()) {
    for (const std::string& dataset : {point.labels.dataset, std::string("default")}) {
      const auto size = model->second.find(dataset);
      if (size == model->second.end()) continue;
      point.batch_size = size->second;
      return;
    }
  }
  where.at("system").fail(fmt::format("{} has no batch size for {} on {}", point.system.name,
                                      point.model.name, point.labels.dataset));
}

void check_executor(const ResolvedPoint& point, const Complainer& where) {
  if (point.executor != "cuda") {
    if (point.profile_to > 0) where.at("profile_steps").fail("wants executor cuda");
    if (point.attribution) where.at("attribution").fail("wants executor cuda");
  } else if (point.attribution && !point.graphs) {
    where.at("attribution").fail("is about steps that run as graphs, and graphs is false");
  }
  if (point.executor == "simulated") return;
  try {
    check_computable(point);
  } catch (const InputError& error) {
    where.at("executor").fail(error.what());
  }
}

void check_labels(const ResolvedPoint& point, const Complainer& where) {
  if (point.labels.extra.empty()) return;
  ResolvedPoint bare = point;
  bare.labels.extra.clear();
  const nlohmann::json own = labels_json(bare);
  for (const auto& [name, text] : point.labels.extra) {
    if (own.contains(name))
      where.at("labels").fail(fmt::format("rows have a `{}` of their own", name));
  }
}

// The law's name may end in -unfitted: the prediction without the model's fitted factor.
void resolve_step_law(ResolvedPoint& point, const DeviceProfile& device, const ConfigNode& where) {
  constexpr std::string_view kUnfitted = "-unfitted";
  std::string law = point.law;
  const bool fitted = !std::string_view(law).ends_with(kUnfitted);
  if (!fitted) law.resize(law.size() - kUnfitted.size());
  const auto own = point.system.step_laws.find(law);
  if (own != point.system.step_laws.end()) law = own->second;
  if (!device.laws.count(law)) {
    std::vector<std::string> known;
    for (const auto& entry : device.laws) known.push_back(entry.first);
    where.fail_unknown(fmt::format("step law of {}", device.name), law, known);
  }
  const ModelConfig& model = point.model;
  const ModelShape shape = {.name = model.name,
                            .layers = model.layers,
                            .hidden = model.hidden,
                            .parameters = model.parameters,
                            .element_bytes = model.element_bytes(),
                            .kv_bytes_per_token = model.kv_bytes_per_token(),
                            .tensor_parallel = point.tensor_parallel};
  const KvShape kv = {.block_tokens = point.system.block_tokens,
                      .shared_prefix = point.workload.prefix_tokens};
  point.step_law = make_step_law(device, law, shape, kv, fitted);
  point.step_law.link.copies_per_block = 2 * model.layers;  // K and V of each layer are apart
}

template <class Value>
const Value& load_named(std::map<std::string, Value>& cache, const char* folder,
                        const std::string& name, Value (*read)(const ConfigNode&)) {
  const auto found = cache.find(name);
  if (found != cache.end()) return found->second;
  const ConfigNode file = ConfigNode::load_file(file_of(folder, name));
  Value value = read(file);
  if (value.name != name) file.fail(fmt::format("name '{}' differs from the file's", value.name));
  return cache.emplace(name, std::move(value)).first->second;
}

}  // namespace

const std::vector<std::string>& setting_names() {
  static const std::vector<std::string> names = [] {
    std::vector<std::string> list;
    for (const Setting& setting : kSettings) list.emplace_back(setting.name);
    return list;
  }();
  return names;
}

const ModelConfig& Library::model(const ConfigNode& name) {
  return load_named(models_, "models", name.name("model", names_in("models")), read_model);
}

const SystemConfig& Library::system(const ConfigNode& name) {
  const std::string wanted = name.name("system", names_in("systems"));
  const SystemConfig& system = load_named(systems_, "systems", wanted, read_system);
  for (const AllocatorEntry& entry : allocator_registry()) {
    if (entry.name == system.allocator) return system;
  }
  std::vector<std::string> known;
  for (const AllocatorEntry& entry : allocator_registry()) known.emplace_back(entry.name);
  ConfigNode::load_file(file_of("systems", system.name))
      .fail_unknown("allocator", system.allocator, known);
}

const DeviceProfile& Library::device(const ConfigNode& name) {
  return device(name.name("device", names_in("devices")), name);
}

const DeviceProfile& Library::device(const std::string& name, const ConfigNode& where) {
  const std::vector<std::string> known = names_in("devices");
  if (std::find(known.begin(), known.end(), name) == known.end()) {
    where.fail_unknown("device", name, known);
  }
  return load_named(devices_, "devices", name, read_device);
}

DraftPoint draft_point(const Settings& settings, Library& library, const ConfigNode& where) {
  DraftPoint result;
  for (const char* needed : {"model", "system", "workload"}) {
    if (!settings.count(needed)) where.fail(fmt::format("missing key '{}'", needed));
  }
  Draft draft{result, result.point, library};
  for (const Setting& setting : kSettings) {
    const auto found = settings.find(setting.name);
    if (found != settings.end()) setting.apply(draft, found->second);
  }
  ResolvedPoint& point = result.point;
  const Complainer complain(settings, where);
  // What arrives after the cut is none of the run's.
  if (point.stop_s > 0)
    point.workload.duration_s = std::min(point.workload.duration_s, point.stop_s);
  if (!settings.count("window_s")) point.window_to_s = point.workload.duration_s;
  check_pool(point, complain);
  check_workload(result, complain);
  check_decodings(point, complain);
  check_prefix_sharing(point.system, complain);
  check_executor(point, complain);
  check_labels(point, complain);
  if (may_swap(point) && point.host_slots() < point.system.block_tokens) {
    complain.at("host_pool_bytes").fail("swapping needs swap space: give at least one block");
  }
  resolve_batch_size(point, complain);
  resolve_step_law(point, library.device(point.device, complain.at("model")), complain.at("law"));
  return result;
}

}  // namespace kvstow
