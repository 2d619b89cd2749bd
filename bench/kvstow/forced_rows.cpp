#include "bench/kvstow/forced_rows.h"

#include <algorithm>

namespace kvstow {

ForcedRows::ForcedRows(const std::vector<Sequence>& sequences, int block_tokens)
    : sequences_(sequences), block_tokens_(block_tokens) {
  for (int s = 0; s < count(); ++s) {
    longest_ = std::max(longest_, length(s));
    begin_.push_back(begin_.back() + length(s));
  }
  stride_ = (longest_ + block_tokens - 1) / block_tokens;
  for (int s = 0; s < count(); ++s) {
    for (int b = 0; b < stride_; ++b) table_.push_back(b * count() + s);
  }
}

ForcedRows::Step ForcedRows::prompts(int prompt) const {
  Step step = empty();
  for (int s = 0; s < count(); ++s) {
    for (int p = 0; p < std::min(prompt, length(s)); ++p) add(step, s, p);
    step.rows.prefill_begin.push_back(step.rows.rows());
    step.rows.prefill_map.push_back(s);
    step.rows.prefill_first.push_back(0);
  }
  return step;
}

ForcedRows::Step ForcedRows::decodes(int position) const {
  Step step = empty();
  for (int s = 0; s < count(); ++s) {
    if (position >= length(s)) continue;
    add(step, s, position);
    step.rows.decode_map.push_back(s);
    step.rows.decode_length.push_back(position + 1);
    step.rows.decode_stable.push_back(position);
  }
  return step;
}

LogitsRoom ForcedRows::room(int prompt) const {
  int rows = 0;
  for (int s = 0; s < count(); ++s) rows += std::min(prompt, length(s));
  return {.rows = rows,  // at least one of each sequence
          .sequences = count(),
          .table_stride = stride_,
          .slots = count() * stride_ * block_tokens_};
}

int ForcedRows::length(int sequence) const {
  return static_cast<int>(sequences_[static_cast<std::size_t>(sequence)].size());
}

ForcedRows::Step ForcedRows::empty() const {
  Step step;
  step.rows.table = table_;
  step.rows.table_stride = stride_;
  step.rows.block_tokens = block_tokens_;
  step.rows.map_rows = count();
  return step;
}

void ForcedRows::add(Step& step, int sequence, int position) const {
  const auto s = static_cast<std::size_t>(sequence);
  const kernels::BlockTableMap map{table_.data(), stride_, block_tokens_};
  ForwardRows& rows = step.rows;
  rows.logits.push_back(rows.rows());
  rows.token.push_back(sequences_[s][static_cast<std::size_t>(position)]);
  rows.position.push_back(position);
  rows.slot.push_back(map.slot(sequence, position));
  step.place.push_back(begin_[s] + position);
}

}  // namespace kvstow
