#include "core/exec/rows/token_histories.h"

#include "core/check.h"
#include "core/rng.h"

namespace kvstow {

std::int32_t prompt_token(const Request& request, Tokens position, int vocab, std::uint64_t seed) {
  const bool prefix = request.prefix.valid() && position < request.prefix_tokens;
  const std::uint64_t owner = prefix ? request.prefix.index() : request.id.index();
  std::uint64_t key = mix64(seed ^ hash_name(prefix ? "prefix tokens" : "prompt tokens"));
  key = mix64(key, owner);
  key = mix64(key, static_cast<std::uint64_t>(position.count()));
  return static_cast<std::int32_t>((key >> 32) * static_cast<std::uint64_t>(vocab) >> 32);
}

TokenHistory& TokenHistories::of(SeqId seq, const Request& request) {
  if (seq.index() >= histories_.size()) histories_.resize(seq.index() + 1);
  TokenHistory& history = histories_[seq.index()];
  if (history.request != request.id) {
    history.request = request.id;
    history.tokens.clear();
    history.tokens.reserve(static_cast<std::size_t>(request.output.count()));
    history.on_their_way = 0;
    history.score = 0;
  }
  return history;
}

std::int32_t TokenHistories::token_at(SeqId seq, const Request& request, Tokens position) {
  if (position < request.prompt) return prompt_token(request, position, vocab_, seed_);
  const auto index = static_cast<std::size_t>((position - request.prompt).count());
  const TokenHistory& history = of(seq, request);
  if (index < history.tokens.size()) return history.tokens[index];
  KVSTOW_CHECK(index < history.tokens.size() + static_cast<std::size_t>(history.on_their_way),
               "a step feeds back a token that was never drawn");
  return ~static_cast<std::int32_t>(seq.index());
}

const std::vector<std::int32_t>& TokenHistories::tokens(SeqId seq) const {
  KVSTOW_CHECK(seq.index() < histories_.size(), "no tokens were drawn for this sequence");
  return histories_[seq.index()].tokens;
}

std::uint64_t TokenHistories::hash(SeqId seq) const {
  std::uint64_t hash = hash_name("tokens");
  for (const std::int32_t token : tokens(seq)) {
    hash = mix64(hash, static_cast<std::uint64_t>(token));
  }
  return hash;
}

}  // namespace kvstow
