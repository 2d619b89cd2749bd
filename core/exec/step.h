// One iteration of the engine: what the scheduler decided and every executor carries out.
#pragma once

#include <span>
#include <vector>

#include "core/kv/mem_plan.h"
#include "core/request.h"
#include "core/types.h"

namespace kvstow {

// The work of one group in this step: for each of its sequences, compute K and V of the tokens at
// positions [first, first + count), then draw one token for position first + count.
//   a prompt:  first = tokens already cached, count = the rest.
//   a chunk:   part of a prompt; only its last chunk draws.
//   a decode:  count = 1.
//   recompute: a prompt that goes on with the tokens generated before the preemption; those at
//              positions >= request->prompt are generated tokens and keep the arithmetic of a
//              decode.
// A group whose request has output 0 is a shared prefix being made resident, and draws nothing.
// Where `shared` is set the sequences still have one history and one set of slots: the tokens are
// computed once and one token is drawn for each sequence.
struct StepGroup {
  const Request* request;
  std::span<const SeqId> sequences;  // living members, in sample order
  Tokens first;
  Tokens count;
  bool shared;
  bool draws = true;
};

// Sums over the step's groups, padding of static batches included. A cost model needs no more.
struct StepTotals {
  std::int64_t groups = 0;
  std::int64_t sequences = 0;  // running sequences
  Tokens prompt_tokens{0};     // computed in a prefill (recomputed ones too)
  Tokens decode_tokens{0};     // one for each decoding sequence
  Tokens kv_read{0};           // context tokens read by decodes, each sequence its own, and by
                               // chunks of what earlier ones have stored
  Tokens prefix_read{0};       // part of kv_read that lies in a prefix shared with other requests
  Tokens recomputed{0};        // part of prompt_tokens that had been computed before
};

struct Step {
  MemPlan plan;  // runs first, in order
  std::vector<StepGroup> groups;
  StepTotals totals;
  int preemptions = 0;           // groups preempted while this step was made
  bool head_fragmented = false;  // enough free, but no usable shape for the head of the queue

  [[nodiscard]] bool empty() const { return groups.empty() && plan.empty(); }
  void clear() {
    plan.clear();
    groups.clear();
    totals = {};
    preemptions = 0;
    head_fragmented = false;
  }
};

// The token drawn for one sequence. In beam search `parent` is the sequence whose history it
// extends; otherwise parent == sequence. A sequence that is anybody's parent stays its own parent
// too (survivors keep their sequence; only dead ones are re-forked). A sequence that is not listed
// went on by itself. The tokens of one group stand together.
struct TokenOut {
  SeqId sequence;
  SeqId parent;
  std::int32_t token;
  float logprob;
};

struct StepResult {
  Seconds elapsed = 0;
  std::span<const TokenOut> tokens;  // valid until the next submit
};

}  // namespace kvstow
