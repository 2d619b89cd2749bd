// What a request is beside its lengths: how it is decoded, and which conversation it continues.
#pragma once

#include <vector>

#include "core/request.h"
#include "core/rng.h"
#include "workloads/trace_row.h"
#include "workloads/workload.h"

namespace kvstow {

// A weighted mix of decodings, one draw per request.
class DecodingMix {
 public:
  // Weights are >= 0 and not all 0.
  DecodingMix(const std::vector<DecodingShare>& shares, RandomStream random);
  [[nodiscard]] Decoding draw();

 private:
  std::vector<DecodingShare> shares_;  // weight: the cumulative share, last 1
  RandomStream random_;
};

// The paper's chatbot (section 6.5, Fig. 17). An arrival starts a new conversation with probability
// p_new (the first always does) or continues a started one, chosen uniformly. A drawn pair of
// lengths is one turn, a query and its reply. The prompt is the last history_limit tokens of the
// conversation so far with the query; the reply is cut at output_limit. Nothing of a conversation
// is kept in the cache between its rounds, so each round is a request of its own.
class Chatbot {
 public:
  Chatbot(const WorkloadConfig& config, RandomStream random);

  // Turns a drawn turn into the next round's request: prompt, output and session (from 1).
  void apply(TraceRow& turn);

 private:
  double p_new_;
  Tokens history_limit_;
  Tokens output_limit_;
  RandomStream random_;
  std::vector<std::uint32_t> history_;  // tokens so far, by conversation; at most history_limit
};

}  // namespace kvstow
