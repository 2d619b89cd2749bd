#include "bench/experiment/device.h"

#include <fmt/format.h>

#include <algorithm>

namespace kvstow {
namespace {

constexpr std::string_view kFormNames[] = {"max", "linear"};
constexpr const char* kRoofline = "roofline";

double scaled(const ConfigMap& map, const char* key, double unit) {
  const auto value = map.find(key);
  return value ? value->number_at_least(0) * unit : 0;
}

NamedStepLaw read_law(const ConfigNode& node) {
  constexpr double kMilli = 1e-3;
  constexpr double kMicro = 1e-6;
  const ConfigMap map(
      node, {"law", "engine", "model", "form", "fixed_ms", "per_group_ms", "per_sequence_ms",
             "weight_read_ms", "per_token_ms", "per_kv_token_us", "per_copied_token_us",
             "per_copy_launch_us"});
  NamedStepLaw law;
  law.law = map.at("law").text();
  if (law.law == kRoofline) map.at("law").fail("roofline is computed from the sheet");
  law.engine = map.at("engine").text();
  law.model = map.at("model").text();
  law.constants.form = map.at("form").choice<StepForm>("form", kFormNames);
  law.constants.fixed = map.at("fixed_ms").number_at_least(0) * kMilli;
  law.constants.per_group = scaled(map, "per_group_ms", kMilli);
  law.constants.per_sequence = scaled(map, "per_sequence_ms", kMilli);
  law.constants.weight_read = scaled(map, "weight_read_ms", kMilli);
  law.constants.per_token = map.at("per_token_ms").number_at_least(0) * kMilli;
  law.constants.per_kv_token = map.at("per_kv_token_us").number_at_least(0) * kMicro;
  law.constants.per_copied_token = scaled(map, "per_copied_token_us", kMicro);
  law.constants.per_copy_launch = scaled(map, "per_copy_launch_us", kMicro);
  return law;
}

LinkLaw read_link(const ConfigNode& node) {
  const ConfigMap map(node, {"in_bytes_per_s", "out_bytes_per_s", "per_copy_us"});
  LinkLaw link;
  link.bytes_per_s_in = map.at("in_bytes_per_s").number_above(0);
  link.bytes_per_s_out = map.at("out_bytes_per_s").number_above(0);
  link.per_copy = map.at("per_copy_us").number_at_least(0) * 1e-6;
  return link;
}

DeviceSheet read_sheet(const ConfigNode& node) {
  const ConfigMap map(node, {"bandwidth_bytes_per_s", "flops_per_s", "link_bytes_per_s",
                             "per_layer_us", "per_allreduce_us"});
  DeviceSheet sheet;
  sheet.bandwidth_bytes_per_s = map.at("bandwidth_bytes_per_s").number_above(0);
  sheet.flops_per_s = map.at("flops_per_s").number_above(0);
  sheet.link_bytes_per_s = map.at("link_bytes_per_s").number_above(0);
  sheet.per_layer_s = map.at("per_layer_us").number_at_least(0) * 1e-6;
  sheet.per_allreduce_s = map.at("per_allreduce_us").number_at_least(0) * 1e-6;
  return sheet;
}

// Every shard reads its part of the weights and of K and V, and computes its part of the flops (two
// for each parameter and token); two all-reduces a layer join the shards.
StepLaw roofline(const DeviceSheet& sheet, const ModelConfig& model, int tensor_parallel) {
  const auto shards = static_cast<double>(tensor_parallel);
  const auto parameters = static_cast<double>(model.parameters);
  const auto layers = static_cast<double>(model.layers);
  const auto element = static_cast<double>(model.element_bytes);
  StepLaw law;
  law.fixed = layers * sheet.per_layer_s;
  law.weight_read = parameters * element / shards / sheet.bandwidth_bytes_per_s;
  law.per_token = 2 * parameters / shards / sheet.flops_per_s;
  const auto kv_bytes = static_cast<double>(model.kv_bytes_per_token().count());
  law.per_kv_token = kv_bytes / shards / sheet.bandwidth_bytes_per_s;
  law.per_copied_token = 2 * law.per_kv_token;  // read and written
  if (tensor_parallel > 1) {
    law.fixed += 2 * layers * sheet.per_allreduce_s;
    const double activations = static_cast<double>(model.hidden) * element;
    law.per_token +=
        2 * layers * activations * 2 * (shards - 1) / shards / sheet.link_bytes_per_s;
  }
  return law;
}

}  // namespace

DeviceConfig read_device(const ConfigNode& file) {
  const ConfigMap map(file, {"name", "host_link", "sheet", "step_laws"});
  DeviceConfig device;
  device.name = map.at("name").text();
  device.host_link = read_link(map.at("host_link"));
  device.sheet = read_sheet(map.at("sheet"));
  if (const auto laws = map.find("step_laws")) {
    for (const ConfigNode& law : laws->items()) device.laws.push_back(read_law(law));
  }
  return device;
}

std::vector<std::string> law_names(const DeviceConfig& device) {
  std::vector<std::string> names = {kRoofline};
  for (const NamedStepLaw& law : device.laws) {
    if (std::find(names.begin(), names.end(), law.law) == names.end()) names.push_back(law.law);
  }
  return names;
}

StepLaw step_law(const DeviceConfig& device, const std::string& law, const std::string& engine,
                 const ModelConfig& model, int tensor_parallel, const ConfigNode& where) {
  StepLaw constants;
  if (law == kRoofline) {
    constants = roofline(device.sheet, model, tensor_parallel);
  } else {
    const auto found = std::find_if(device.laws.begin(), device.laws.end(), [&](const auto& l) {
      return l.law == law && l.engine == engine && l.model == model.name;
    });
    if (found == device.laws.end()) {
      const std::vector<std::string> known = law_names(device);
      if (std::find(known.begin(), known.end(), law) == known.end()) {
        where.fail_unknown(fmt::format("step law of {}", device.name), law, known);
      }
      where.fail(fmt::format("{} has no law '{}' for {} under the engine {}; 'roofline' serves any",
                             device.name, law, model.name, engine));
    }
    constants = found->constants;
  }
  constants.kv_bytes_per_token = model.kv_bytes_per_token();
  constants.link = device.host_link;
  constants.link.bytes_per_s_in *= tensor_parallel;  // every GPU has a link of its own
  constants.link.bytes_per_s_out *= tensor_parallel;
  constants.link.copies_per_block = 2 * model.layers;
  return constants;
}

}  // namespace kvstow
