#include "bench/experiment/workload_config.h"

#include <fmt/format.h>

#include "bench/experiment/data_root.h"

namespace kvstow {
namespace {

constexpr std::string_view kDecodingNames[] = {"single", "parallel", "beam"};

std::vector<DecodingShare> read_decodings(const ConfigNode& node) {
  std::vector<DecodingShare> shares;
  for (const ConfigNode& item : node.items()) {
    const ConfigMap map(item, {"decoding", "width", "weight"});
    DecodingShare share;
    share.decoding.kind = map.at("decoding").choice<DecodingKind>("decoding", kDecodingNames);
    if (const auto width = map.find("width")) {
      share.decoding.width = width->count_at_least(1);
    }
    share.weight = map.at("weight").number_at_least(0);
    shares.push_back(share);
  }
  return shares;
}

void read_file(const ConfigMap& map, WorkloadSpec& spec) {
  WorkloadConfig& config = spec.config;
  const auto file = map.find("file");
  const bool wanted = config.lengths == LengthLaw::file || config.arrivals == ArrivalLaw::trace;
  if (!file) {
    if (wanted) map.node().fail("missing key 'file'");
    return;
  }
  if (!wanted) file->fail("needs `lengths: file` or `arrivals: trace`");
  const std::string name = file->text();
  config.file = find_data_file(name, file->file());
  if (!config.file.empty()) return;
  const auto optional = map.find("optional");
  if (!optional || !optional->boolean()) {
    file->fail(
        fmt::format("no file '{}' beside this one, in $KVSTOW_TRACES or in a traces folder", name));
  }
  spec.missing_file = name;
}

}  // namespace

WorkloadSpec read_workload(const ConfigNode& node) {
  const ConfigMap map(node, {"lengths",
                             "dataset",
                             "prompt_tokens",
                             "output_tokens",
                             "output_cv",
                             "file",
                             "optional",
                             "file_format",
                             "shuffle",
                             "file_rows",
                             "chars_per_token",
                             "arrivals",
                             "rate_per_s",
                             "burstiness",
                             "quantum_s",
                             "max_requests",
                             "over_limit",
                             "decodings",
                             "scenario",
                             "prefix_tokens",
                             "new_conversation_probability",
                             "history_limit_tokens",
                             "output_limit_tokens"});
  WorkloadSpec spec;
  WorkloadConfig& config = spec.config;
  const auto with = [&](std::string_view key, auto&& read) {
    if (const auto value = map.find(key)) read(*value);
  };
  const auto tokens = [&](std::string_view key, Tokens& into) {
    with(key, [&](const ConfigNode& n) { into = Tokens(n.count_at_least(1)); });
  };
  const ConfigNode lengths = map.at("lengths");
  config.lengths = lengths.choice<LengthLaw>("length law", kLengthLawNames);
  spec.dataset = lengths.text();
  with("dataset", [&](const ConfigNode& n) { spec.dataset = n.text(); });
  tokens("prompt_tokens", config.fixed_prompt);
  tokens("output_tokens", config.fixed_output);
  with("output_cv", [&](const ConfigNode& n) { config.output_cv = n.number_at_least(0); });
  if (config.lengths == LengthLaw::fixed) {
    (void)map.at("prompt_tokens");
    (void)map.at("output_tokens");
  }
  with("arrivals", [&](const ConfigNode& n) {
    config.arrivals = n.choice<ArrivalLaw>("arrival law", kArrivalLawNames);
  });
  with("file_format", [&](const ConfigNode& n) {
    config.file_format = n.choice<FileFormat>("file format", kFileFormatNames);
  });
  with("shuffle", [&](const ConfigNode& n) { config.shuffle = n.boolean(); });
  with("file_rows", [&](const ConfigNode& n) { config.file_rows = n.count_at_least(1); });
  with("chars_per_token", [&](const ConfigNode& n) { config.chars_per_token = n.number_above(0); });
  with("rate_per_s", [&](const ConfigNode& n) { config.rate_per_s = n.number_above(0); });
  with("burstiness", [&](const ConfigNode& n) { config.burstiness = n.number_above(0); });
  with("quantum_s", [&](const ConfigNode& n) { config.quantum_s = n.number_at_least(0); });
  with("max_requests", [&](const ConfigNode& n) { config.max_requests = n.count_at_least(1); });
  with("over_limit", [&](const ConfigNode& n) {
    config.over_limit = n.choice<OverLimit>("over_limit", kOverLimitNames);
  });
  with("decodings", [&](const ConfigNode& n) { config.decodings = read_decodings(n); });
  with("scenario", [&](const ConfigNode& n) {
    config.scenario = n.choice<Scenario>("scenario", kScenarioNames);
  });
  tokens("prefix_tokens", config.prefix_tokens);
  with("new_conversation_probability", [&](const ConfigNode& n) {
    config.p_new = n.number_above(0);
    if (config.p_new > 1) n.fail("must be at most 1");
  });
  tokens("history_limit_tokens", config.history_limit);
  tokens("output_limit_tokens", config.output_limit);
  read_file(map, spec);
  return spec;
}

}  // namespace kvstow
