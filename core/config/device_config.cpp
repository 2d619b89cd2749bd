#include "core/config/device_config.h"

#include <charconv>

namespace kvstow {
namespace {

constexpr std::string_view kFormNames[] = {"max", "linear"};

double positive(const ConfigMap& map, const char* key) {
  return map.at(key).number_above(0);
}

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
  const ConfigMap map(node,
                      {"bytes_per_s_in", "bytes_per_s_out", "per_copy_in_s", "per_copy_out_s"});
  return {.bytes_per_s_in = positive(map, "bytes_per_s_in"),
          .bytes_per_s_out = positive(map, "bytes_per_s_out"),
          .per_copy_in = map.at("per_copy_in_s").number_at_least(0),
          .per_copy_out = map.at("per_copy_out_s").number_at_least(0)};
}

std::map<std::int64_t, double> read_block_curve(const ConfigNode& node) {
  std::map<std::int64_t, double> curve;
  const ConfigMap map(node);
  for (const auto& [block, factor] : map.entries()) {
    std::int64_t tokens = 0;
    const auto [end, error] = std::from_chars(block.data(), block.data() + block.size(), tokens);
    if (error != std::errc() || end != block.data() + block.size() || tokens < 1) {
      factor.fail("'" + block + "' is no block size (tokens, from 1 up)");
    }
    curve[tokens] = factor.number_above(0);
  }
  return curve;
}

// A law may start from one above it in the file (`like`) and change some of its numbers.
LawProfile read_law(const ConfigNode& node, const std::map<std::string, LawProfile>& earlier) {
  const ConfigMap map(
      node, {"like", "form", "host_per_layer_s", "host_per_group_s", "host_per_sequence_s",
             "weight_read_share", "compute_share", "kv_read_share", "prefix_from_l2",
             "fitted_fixed_factors", "kv_time_by_block"});
  LawProfile law;
  if (const auto like = map.find("like")) {
    std::vector<std::string> known;
    for (const auto& [name, _] : earlier) known.push_back(name);
    law = earlier.at(like->name("law", known));
  }
  const auto given = [&](const char* key) { return !map.find("like") || map.find(key); };
  const auto time = [&](const char* key, Seconds& value) {
    if (const auto seconds = map.find(key)) value = seconds->number_at_least(0);
  };
  if (given("form")) law.form = map.at("form").choice<StepForm>("form", kFormNames);
  time("host_per_layer_s", law.host_per_layer);
  time("host_per_group_s", law.host_per_group);
  time("host_per_sequence_s", law.host_per_sequence);
  if (given("weight_read_share")) law.weight_read_share = share(map.at("weight_read_share"));
  if (given("compute_share")) law.compute_share = positive_share(map, "compute_share");
  if (given("kv_read_share")) law.kv_read_share = positive_share(map, "kv_read_share");
  if (const auto l2 = map.find("prefix_from_l2")) law.prefix_from_l2 = l2->boolean();
  if (const auto factors = map.find("fitted_fixed_factors")) {
    const ConfigMap by_model(*factors);
    for (const auto& [model, factor] : by_model.entries()) {
      law.fixed_factors[model] = factor.number_above(0);
    }
  }
  if (const auto curve = map.find("kv_time_by_block")) {
    law.kv_time_by_block = read_block_curve(*curve);
  }
  return law;
}

}  // namespace

DeviceProfile read_device(const ConfigNode& file) {
  const ConfigMap map(file,
                      {"name", "memory_bytes_per_s", "flops_per_s", "l2_bytes_per_s", "l2_bytes",
                       "all_reduce_bytes_per_s", "all_reduce_latency_s", "link", "laws"});
  DeviceProfile device;
  device.name = map.at("name").text();
  device.memory_bytes_per_s = positive(map, "memory_bytes_per_s");
  device.flops_per_s = positive(map, "flops_per_s");
  device.l2_bytes_per_s = optional_at_least_zero(map, "l2_bytes_per_s");
  device.l2_bytes = optional_at_least_zero(map, "l2_bytes");
  device.all_reduce_bytes_per_s = optional_at_least_zero(map, "all_reduce_bytes_per_s");
  device.all_reduce_latency = optional_at_least_zero(map, "all_reduce_latency_s");
  device.link = read_link(map.at("link"));
  const ConfigMap laws(map.at("laws"));
  for (const auto& [name, law] : laws.entries()) {
    device.laws[name] = read_law(law, device.laws);
  }
  return device;
}

}  // namespace kvstow
