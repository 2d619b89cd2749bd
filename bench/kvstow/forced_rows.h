// Given sequences as the steps of a transformer: all prompts together, then one decoded token of
// every sequence at a time.
#pragma once

#include <cstdint>
#include <vector>

#include "bench/kvstow/logits_model.h"
#include "core/exec/rows/forward_rows.h"

namespace kvstow {

using Sequence = std::vector<std::int32_t>;

class ForcedRows {
 public:
  // `sequences` must outlive it. Their K and V lie in blocks as if all had grown side by side:
  // block b of sequence s is block b * sequences + s of the pool.
  ForcedRows(const std::vector<Sequence>& sequences, int block_tokens);

  // What every row of the two below asks for: its logits, and where they belong among those of all
  // tokens, the sequences one after the other.
  struct Step {
    ForwardRows rows;
    std::vector<std::int64_t> place;
  };
  // The first `prompt` tokens of every sequence.
  [[nodiscard]] Step prompts(int prompt) const;
  // The token at `position` of every sequence that has one.
  [[nodiscard]] Step decodes(int position) const;

  [[nodiscard]] int longest() const { return longest_; }
  [[nodiscard]] std::int64_t tokens() const { return begin_.back(); }
  // Enough for prompts(prompt) and all decodes.
  [[nodiscard]] LogitsRoom room(int prompt) const;

 private:
  [[nodiscard]] int count() const { return static_cast<int>(sequences_.size()); }
  [[nodiscard]] int length(int sequence) const;
  [[nodiscard]] Step empty() const;
  void add(Step&, int sequence, int position) const;

  const std::vector<Sequence>& sequences_;
  int block_tokens_;
  int longest_ = 0;
  std::int64_t stride_ = 0;
  std::vector<std::int64_t> begin_{0};
  std::vector<std::int32_t> table_;
};

}  // namespace kvstow
