// The tokens of every sequence, for executors that compute: made-up prompts, and what was drawn.
#pragma once

#include <cstdint>
#include <vector>

#include "core/request.h"
#include "core/types.h"

namespace kvstow {

// A prompt's token is a hash of (seed, request, position), or of (seed, prefix, position) within a
// shared prefix.
[[nodiscard]] std::int32_t prompt_token(const Request&, Tokens position, int vocab,
                                        std::uint64_t seed);

// What a sequence has drawn. Survives preemption; starts anew when its id goes to another request.
struct TokenHistory {
  RequestId request;
  std::vector<std::int32_t> tokens;
  int on_their_way = 0;  // tokens drawn by steps that the host has not waited for
  double score = 0;      // beam search: sum of the log-probabilities
};

class TokenHistories {
 public:
  TokenHistories(int vocab, std::uint64_t seed) : vocab_(vocab), seed_(seed) {}

  [[nodiscard]] TokenHistory& of(SeqId, const Request&);

  // The token at a position of the sequence; ~seq where a step that is still running draws it.
  // Throws InvariantError where it was never drawn.
  [[nodiscard]] std::int32_t token_at(SeqId, const Request&, Tokens position);

  // Output tokens so far, and a hash of them in order.
  [[nodiscard]] const std::vector<std::int32_t>& tokens(SeqId) const;
  [[nodiscard]] std::uint64_t hash(SeqId) const;

 private:
  int vocab_;
  std::uint64_t seed_;
  std::vector<TokenHistory> histories_;  // by SeqId
};

}  // namespace kvstow
