#include "workloads/length_laws.h"

#include <algorithm>
#include <cmath>
#include <numbers>

#include "core/check.h"
#include "workloads/quantile_tables.h"

namespace kvstow {
namespace {

// The nearest whole token, at least one.
Tokens whole(double tokens) {
  return Tokens(std::max<std::int64_t>(1, std::int64_t(tokens + 0.5)));
}

[[nodiscard]] double normal_cdf(double x) {
  return 0.5 * std::erfc(-x / std::numbers::sqrt2);
}

// Rejecting pairs beyond 2048 would lower both means (to 152.8 / 335.1), because the table was made
// after that cut. So the prompt is drawn as it is and only the output is redrawn. Two numbers put
// back what the redraw takes away; they are solved for two facts of the length file after its cut:
// E[output] = 337.988, and E[prompt * output] / E[output] = 171.48, the prompt that an average
// output token stands behind. (Without the second, sequences hold 5 % fewer KV tokens than the
// paper's, and a saturated vLLM batches 34.8 requests instead of 33.)
class SharegptLaw final : public LengthSource {
 public:
  explicit SharegptLaw(RandomStream random) : random_(random) {}

  bool next(TraceRow& row) override {
    const double x = random_.normal();
    row.prompt = whole(kSharegptPrompt.at(normal_cdf(x)));
    do {
      const double y =
          kCorrelation * x + std::sqrt(1 - kCorrelation * kCorrelation) * random_.normal();
      row.output = whole(kOutputScale * kSharegptOutput.at(normal_cdf(y)));
    } while (row.prompt + row.output > kLongestPair);
    return true;
  }

 private:
  static constexpr Tokens kLongestPair{2048};
  static constexpr double kCorrelation = 0.1845;  // of the normals behind prompt and first draw
  static constexpr double kOutputScale = 1.0231;

  RandomStream random_;
};

// Two tables joined by a Gaussian copula, which keeps both marginals exactly and sets the rank
// correlation: Pearson's r of the normals is 2 sin(pi rho / 6) for Spearman's rho (Kruskal 1958).
class CopulaLaw final : public LengthSource {
 public:
  CopulaLaw(const QuantileTable& prompt, const QuantileTable& output, double rank_correlation,
            RandomStream random)
      : prompt_(prompt),
        output_(output),
        r_(2 * std::sin(std::numbers::pi * rank_correlation / 6)),
        rest_(std::sqrt(1 - r_ * r_)),
        random_(random) {}

  bool next(TraceRow& row) override {
    const double x = random_.normal();
    const double y = r_ * x + rest_ * random_.normal();
    row.prompt = whole(prompt_.at(normal_cdf(x)));
    row.output = whole(output_.at(normal_cdf(y)));
    return true;
  }

 private:
  const QuantileTable& prompt_;
  const QuantileTable& output_;
  double r_;
  double rest_;
  RandomStream random_;
};

class FixedLengths final : public LengthSource {
 public:
  FixedLengths(const WorkloadConfig& config, RandomStream random)
      : prompt_(config.fixed_prompt),
        output_(config.fixed_output),
        shape_(config.output_cv > 0 ? 1 / (config.output_cv * config.output_cv) : 0),
        random_(random) {}

  bool next(TraceRow& row) override {
    row.prompt = prompt_;
    row.output = output_;
    if (shape_ > 0) {
      row.output = whole(static_cast<double>(output_.count()) * random_.gamma(shape_) / shape_);
    }
    return true;
  }

 private:
  Tokens prompt_;
  Tokens output_;
  double shape_;  // of the gamma law, CV = 1 / sqrt(shape); 0 = no spread
  RandomStream random_;
};

}  // namespace

std::unique_ptr<LengthSource> make_length_law(const WorkloadConfig& config, RandomStream random) {
  switch (config.lengths) {
    case LengthLaw::sharegpt:
      return std::make_unique<SharegptLaw>(random);
    case LengthLaw::alpaca:
      return std::make_unique<CopulaLaw>(kAlpacaPrompt, kAlpacaOutput, -0.24, random);
    case LengthLaw::wmt_ende:
      return std::make_unique<CopulaLaw>(kWmtSource, kWmtTarget, 0.857, random);
    case LengthLaw::fixed:
      return std::make_unique<FixedLengths>(config, random);
    case LengthLaw::file:
      break;
  }
  fail_check("lengths is a law", "a lengths file is no law");
}

}  // namespace kvstow
