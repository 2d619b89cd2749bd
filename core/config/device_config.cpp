#include "core/config/device_config.h"

namespace kvstow {
namespace {

constexpr std::string_view kFormNames[] = {"max", "linear"};

double positive(const ConfigMap& map, const char* key) { return map.at(key).number_above(0); }

double optional_at_least_zero(const ConfigMap& map, const char* key) {
  const auto node = map.find(key);
  return node ? node->number_at_least(0) : 0;
}

double share(const ConfigNode& node) {
  const double value = node.number_at_least(0);
  if (value > 1) node.fail("is a share of the sheet's rate: at most 1");
  return value;
}

double positive_share(const ConfigMap& map, const char* key) {
  const ConfigNode node = map.at(key);
  if (node.number() <= 0) node.fail("must be above 0");
  return share(node);
}

LinkLaw read_link(const ConfigNode& node) {
  const ConfigMap map(node, {"bytes_per_s_in", "bytes_per_s_out", "per_copy_in_s", "per_copy_out_s"});
  return {.bytes_per_s_in = positive(map, "bytes_per_s_in"),
          .bytes_per_s_out = positive(map, "bytes_per_s_out"),
          .per_copy_in = map.at("per_copy_in_s").number_at_least(0),
          .per_copy_out = map.at("per_copy_out_s").number_at_least(0)};
}

LawProfile read_law(const ConfigNode& node) {
  const ConfigMap map(node, {"form", "host_per_layer_s", "host_per_group_s", "host_per_sequence_s",
                             "weight_read_share", "compute_share", "kv_read_share",
                             "fitted_fixed_factors"});
  LawProfile law;
  law.form = map.at("form").choice<StepForm>("form", kFormNames);
  law.host_per_layer = optional_at_least_zero(map, "host_per_layer_s");
  law.host_per_group = optional_at_least_zero(map, "host_per_group_s");
  law.host_per_sequence = optional_at_least_zero(map, "host_per_sequence_s");
  law.weight_read_share = share(map.at("weight_read_share"));
  law.compute_share = positive_share(map, "compute_share");
  law.kv_read_share = positive_share(map, "kv_read_share");
  if (const auto factors = map.find("fitted_fixed_factors")) {
    const ConfigMap by_model(*factors);
    for (const auto& [model, factor] : by_model.entries()) {
      law.fixed_factors[model] = factor.number_above(0);
    }
  }
  return law;
}

}  // namespace

DeviceProfile read_device(const ConfigNode& file) {
  const ConfigMap map(file, {"name", "memory_bytes_per_s", "flops_per_s", "all_reduce_bytes_per_s",
                             "all_reduce_latency_s", "link", "laws"});
  DeviceProfile device;
  device.name = map.at("name").text();
  device.memory_bytes_per_s = positive(map, "memory_bytes_per_s");
  device.flops_per_s = positive(map, "flops_per_s");
  device.all_reduce_bytes_per_s = optional_at_least_zero(map, "all_reduce_bytes_per_s");
  device.all_reduce_latency = optional_at_least_zero(map, "all_reduce_latency_s");
  device.link = read_link(map.at("link"));
  const ConfigMap laws(map.at("laws"));
  for (const auto& [name, law] : laws.entries()) device.laws[name] = read_law(law);
  return device;
}

}  // namespace kvstow
