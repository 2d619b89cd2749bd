#include "workloads/arrivals.h"

#include <cmath>

#include "core/check.h"

namespace kvstow {
namespace {

// The paper's artifact draws a Poisson count per 10 ms tick (quantum) and lets all of it arrive at
// the tick. Exponential gaps, summed exactly and floored to ticks, are the same law, for any
// quantum, with one draw per request.
class RenewalArrivals final : public ArrivalSource {
 public:
  RenewalArrivals(double rate_per_s, double burstiness, Seconds quantum, RandomStream random)
      : rate_(rate_per_s), burstiness_(burstiness), quantum_(quantum), random_(random) {}

  std::optional<Seconds> next() override {
    // A gap of mean 1; Gamma(1) is the exponential, which has the cheaper draw.
    unit_time_ +=
        burstiness_ == 1 ? random_.exponential() : random_.gamma(burstiness_) / burstiness_;
    const Seconds time = unit_time_ / rate_;
    return quantum_ > 0 ? std::floor(time / quantum_) * quantum_ : time;
  }

 private:
  double rate_;
  double burstiness_;
  Seconds quantum_;
  RandomStream random_;
  double unit_time_ = 0;  // requests' worth of time: seconds x rate
};

class AllAtZero final : public ArrivalSource {
 public:
  std::optional<Seconds> next() override { return 0.0; }
};

}  // namespace

std::unique_ptr<ArrivalSource> make_arrival_law(const WorkloadConfig& config, RandomStream random) {
  switch (config.arrivals) {
    case ArrivalLaw::poisson:
      return std::make_unique<RenewalArrivals>(config.rate_per_s, 1, config.quantum_s, random);
    case ArrivalLaw::gamma:
      return std::make_unique<RenewalArrivals>(config.rate_per_s, config.burstiness,
                                               config.quantum_s, random);
    case ArrivalLaw::all_at_zero:
      return std::make_unique<AllAtZero>();
    case ArrivalLaw::trace:
      break;
  }
  fail_check("arrivals is a law", "a recorded trace is no law");
}

}  // namespace kvstow
