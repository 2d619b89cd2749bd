#include "core/exec/beam_model.h"

#include "core/rng.h"

namespace kvstow {
namespace {

class DeathAndRefork final : public BeamModel {
 public:
  DeathAndRefork(double death, std::uint64_t seed) : death_(death), seed_(seed) {}

  void step(const StepGroup& group, std::vector<TokenOut>& out) override {
    // Keyed by request and position, so that the same beams die under every system and schedule.
    const Tokens position = group.first + group.count;
    const std::uint64_t where = (std::uint64_t{group.request->id.index()} << 32) +
                                static_cast<std::uint64_t>(position.count());
    RandomStream random(mix64(seed_) ^ where, "beam");
    dead_.clear();
    alive_.clear();
    for (const SeqId seq : group.sequences) {
      (random.uniform() < death_ ? dead_ : alive_).push_back(seq);
    }
    if (alive_.empty()) {
      alive_.push_back(dead_.front());
      dead_.erase(dead_.begin());
    }
    for (const SeqId seq : dead_) {
      const auto parent = alive_[random.below(static_cast<std::uint32_t>(alive_.size()))];
      out.push_back({.sequence = seq, .parent = parent, .token = 0, .logprob = 0});
    }
  }

 private:
  double death_;
  std::uint64_t seed_;
  std::vector<SeqId> dead_;
  std::vector<SeqId> alive_;
};

}  // namespace

std::unique_ptr<BeamModel> make_death_and_refork(double death, std::uint64_t seed) {
  return std::make_unique<DeathAndRefork>(death, seed);
}

}  // namespace kvstow
