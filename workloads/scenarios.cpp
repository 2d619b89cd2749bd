#include "workloads/scenarios.h"

namespace kvstow {

DecodingMix::DecodingMix(const std::vector<DecodingShare>& shares, RandomStream random)
    : shares_(shares), random_(random) {
  double sum = 0;
  for (DecodingShare& share : shares_) share.weight = sum += share.weight;
  for (DecodingShare& share : shares_) share.weight /= sum;
}

Decoding DecodingMix::draw() {
  if (shares_.size() == 1) return shares_.front().decoding;
  const double u = random_.uniform();
  for (const DecodingShare& share : shares_) {
    if (u < share.weight) return share.decoding;
  }
  return shares_.back().decoding;  // unreachable: the last cumulative share is exactly 1
}

Chatbot::Chatbot(const WorkloadConfig& config, RandomStream random)
    : p_new_(config.p_new),
      history_limit_(config.history_limit),
      output_limit_(config.output_limit),
      random_(random) {}

void Chatbot::apply(TraceRow& turn) {
  // Two draws per arrival whatever they say, so that p_new does not shift later choices.
  const bool starts = random_.uniform() < p_new_;
  const double choice = random_.uniform();
  std::size_t conversation = history_.size();
  if (starts || history_.empty()) {
    history_.push_back(0);
  } else {
    conversation = static_cast<std::size_t>(choice * static_cast<double>(history_.size()));
  }
  std::uint32_t& history = history_[conversation];
  turn.prompt = min(Tokens(history) + turn.prompt, history_limit_);
  turn.output = min(turn.output, output_limit_);
  turn.session = static_cast<std::uint32_t>(conversation) + 1;
  turn.block_hashes.clear();  // of the turn's text, which is no longer where the prompt begins
  // What lies before the last history_limit tokens is never seen again.
  history = static_cast<std::uint32_t>(min(turn.prompt + turn.output, history_limit_).count());
}

}  // namespace kvstow
