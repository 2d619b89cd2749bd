#include "core/exec/device_profile.h"

#include <cmath>

#include "core/check.h"

namespace kvstow {
namespace {

double kv_time_factor(const std::map<std::int64_t, double>& by_block, std::int64_t block) {
  if (by_block.empty()) return 1;
  const auto above = by_block.lower_bound(block);
  if (above == by_block.end()) return by_block.rbegin()->second;
  if (above == by_block.begin() || above->first == block) return above->second;
  const auto below = std::prev(above);
  const double from = std::log2(static_cast<double>(below->first));
  const double to = std::log2(static_cast<double>(above->first));
  const double share = (std::log2(static_cast<double>(block)) - from) / (to - from);
  return below->second + share * (above->second - below->second);
}

}  // namespace

StepLaw make_step_law(const DeviceProfile& device, const std::string& law_name,
                      const ModelShape& model, const KvShape& kv, bool fitted) {
  const auto found = device.laws.find(law_name);
  KVSTOW_CHECK(found != device.laws.end(), "the device has no such law");
  const LawProfile& law = found->second;
  const double gpus = model.tensor_parallel;
  const double bandwidth = device.memory_bytes_per_s * gpus;
  const double weight_bytes = static_cast<double>(model.parameters * model.element_bytes);
  const double kv_bytes = static_cast<double>(model.kv_bytes_per_token.count());
  const double layers = static_cast<double>(model.layers);

  StepLaw out;
  out.form = law.form;
  out.per_group = law.host_per_group;
  out.per_sequence = law.host_per_sequence;
  out.fixed = law.host_per_layer * layers;
  if (law.weight_read_share > 0) {
    out.weight_read = weight_bytes / (bandwidth * law.weight_read_share);
  }
  // Two flops for each parameter and token: a multiplication and an addition.
  out.per_token =
      2 * static_cast<double>(model.parameters) / (device.flops_per_s * gpus * law.compute_share);
  out.per_kv_token = kv_bytes / (bandwidth * law.kv_read_share) *
                     kv_time_factor(law.kv_time_by_block, kv.block_tokens.count());
  out.block_tokens = kv.block_tokens;
  const double prefix_bytes_per_layer =
      static_cast<double>(kv.shared_prefix.count()) * kv_bytes / layers / gpus;
  const bool prefix_in_l2 =
      law.prefix_from_l2 && device.l2_bytes_per_s > 0 && prefix_bytes_per_layer <= device.l2_bytes;
  out.per_prefix_token =
      out.per_kv_token * (prefix_in_l2 ? device.memory_bytes_per_s / device.l2_bytes_per_s : 1);
  if (model.tensor_parallel > 1) {
    // Megatron's split: two all-reduces of a token's hidden state in each layer. A ring moves
    // 2 (n - 1) / n of the data over every link.
    const double hidden_bytes = static_cast<double>(model.hidden * model.element_bytes);
    out.fixed += 2 * layers * device.all_reduce_latency;
    out.per_token +=
        2 * layers * hidden_bytes * 2 * (gpus - 1) / gpus / device.all_reduce_bytes_per_s;
  }
  if (fitted) {
    const auto factor = law.fixed_factors.find(model.name);
    if (factor != law.fixed_factors.end()) out.fixed *= factor->second;
  }
  // A copy inside the device reads and writes each byte once.
  out.per_copied_token = 2 * kv_bytes / bandwidth;
  out.kv_bytes_per_token = model.kv_bytes_per_token;
  out.link = device.link;
  out.link.bytes_per_s_in *= gpus;  // every GPU has its own link and moves its own heads
  out.link.bytes_per_s_out *= gpus;
  return out;
}

}  // namespace kvstow
