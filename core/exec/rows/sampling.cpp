#include "core/exec/rows/sampling.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "core/check.h"
#include "core/rng.h"

namespace kvstow {
namespace {

std::int32_t sample(std::span<const float> logits, const SamplingConfig& config, double uniform) {
  const bool filtered = config.top_k > 0 || config.top_p < 1;
  std::vector<std::int32_t> tokens;
  if (filtered) {
    tokens = likeliest(logits,
                       config.top_k > 0 ? static_cast<std::size_t>(config.top_k) : logits.size());
  } else {
    tokens.resize(logits.size());
    std::iota(tokens.begin(), tokens.end(), 0);
  }
  const float largest = *std::max_element(logits.begin(), logits.end());
  std::vector<double> cumulative(tokens.size());
  double sum = 0;
  for (std::size_t i = 0; i < tokens.size(); ++i) {
    const double gap = double{logits[static_cast<std::size_t>(tokens[i])]} - double{largest};
    cumulative[i] = sum += std::exp(gap / config.temperature);
  }
  std::size_t kept = tokens.size();
  if (config.top_p < 1) {  // the first token that reaches the mass is the last one kept
    const auto last = std::lower_bound(cumulative.begin(), cumulative.end(), config.top_p * sum);
    kept = std::min(kept, static_cast<std::size_t>(last - cumulative.begin()) + 1);
  }
  const auto end = cumulative.begin() + static_cast<std::ptrdiff_t>(kept);
  const auto drawn = std::upper_bound(cumulative.begin(), end, uniform * cumulative[kept - 1]);
  const auto index = static_cast<std::size_t>(drawn - cumulative.begin());
  return tokens[std::min(index, kept - 1)];
}

}  // namespace

void check_finite(bool finite) {
  KVSTOW_CHECK(finite, "a logit is not finite: some K or V was read that nobody had written");
}

// Sixteen running sums, so that the order does not depend on the compiler.
double log_sum_exp(std::span<const float> logits) {
  float largest = logits[0];
  bool finite = true;
  for (const float x : logits) {
    finite &= std::isfinite(x);
    largest = std::max(largest, x);
  }
  check_finite(finite);
  double sums[16] = {};
  for (std::size_t i = 0; i < logits.size(); ++i) {
    sums[i % 16] += double{std::exp(logits[i] - largest)};
  }
  return double{largest} + std::log(std::accumulate(std::begin(sums), std::end(sums), 0.0));
}

std::vector<std::int32_t> likeliest(std::span<const float> logits, std::size_t count) {
  std::vector<std::int32_t> order(logits.size());
  std::iota(order.begin(), order.end(), 0);
  count = std::min(count, order.size());
  const auto before = [&](std::int32_t a, std::int32_t b) {
    const float x = logits[static_cast<std::size_t>(a)];
    const float y = logits[static_cast<std::size_t>(b)];
    return x != y ? x > y : a < b;
  };
  std::partial_sort(order.begin(), order.begin() + static_cast<std::ptrdiff_t>(count), order.end(),
                    before);
  order.resize(count);
  return order;
}

double uniform_for(std::uint64_t seed, RequestId request, std::uint32_t sample_index,
                   Tokens output_position) {
  std::uint64_t key = mix64(seed ^ hash_name("token sampling"));
  for (const std::uint64_t part : {std::uint64_t{request.index()}, std::uint64_t{sample_index},
                                   static_cast<std::uint64_t>(output_position.count())}) {
    key = mix64(key, part);
  }
  return static_cast<double>(key >> 11) * 0x1.0p-53;
}

DrawnToken draw_token(std::span<const float> logits, const SamplingConfig& config, double uniform) {
  const double log_sum = log_sum_exp(logits);
  const std::int32_t token =
      config.temperature == 0 ? static_cast<std::int32_t>(
                                    std::max_element(logits.begin(), logits.end()) - logits.begin())
                              : sample(logits, config, uniform);
  const float logit = logits[static_cast<std::size_t>(token)];
  return {token, static_cast<float>(double{logit} - log_sum)};
}

}  // namespace kvstow
