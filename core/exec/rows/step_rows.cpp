#include "core/exec/rows/step_rows.h"

#include <algorithm>

#include "core/check.h"

namespace kvstow {

void ForwardRows::clear() {
  for (auto* list : {&token, &position, &prefill_map, &prefill_first, &decode_map, &decode_length,
                     &decode_stable, &logits}) {
    list->clear();
  }
  slot.clear();
  first.clear();
  prefill_begin.assign(1, 0);
  table_stride = 0;
  map_rows = 0;
}

StepRows::StepRows(const KvAllocator& allocator, const Limits& limits)
    : allocator_(allocator), limits_(limits) {}

// Prompts first, as the kernels want them; then the generated tokens of every sequence.
void StepRows::collect(const Step& step, TokenHistories& histories) {
  rows_.clear();
  draws_.clear();
  collect_members(step);
  if (members_.empty()) return;
  add_maps();
  for (std::size_t i = 0; i < members_.size(); ++i) {
    add_prompt_rows(members_[i], static_cast<std::int32_t>(i), histories);
    members_[i].last_row = rows_.rows() - 1;
  }
  for (std::size_t i = 0; i < members_.size(); ++i) {
    Member& member = members_[i];
    if (member.group->first + member.group->count <= member.group->request->prompt) continue;
    add_generated_rows(member, static_cast<std::int32_t>(i), histories);
    member.last_row = rows_.rows() - 1;
  }
  std::size_t at = 0;
  for (Draw& draw : draws_) {
    while (members_[at].group != draw.group) ++at;  // of those that draw nothing
    draw.first_row = static_cast<int>(rows_.logits.size());
    for (int i = 0; i < draw.rows; ++i) rows_.logits.push_back(members_[at++].last_row);
  }
}

void StepRows::collect_members(const Step& step) {
  members_.clear();
  prefixes_.clear();
  for (const StepGroup& group : step.groups) {
    const std::size_t count = members_to_compute(group);
    if (group.draws) draws_.push_back({&group, 0, static_cast<int>(count)});
    if (group.request->output == Tokens(0)) prefixes_.push_back(group.request->prefix);
    for (std::size_t i = 0; i < count; ++i) {
      members_.push_back({&group, group.sequences[i], allocator_.view(group.sequences[i]), 0});
    }
  }
}

// A shared prompt is computed once where the allocator did share it; one that gives each sequence
// its own slots has to have each of them filled.
std::size_t StepRows::members_to_compute(const StepGroup& group) const {
  if (!group.shared) return group.sequences.size();
  const Tokens last = group.first + group.count - Tokens(1);
  const auto slot = [&](SeqId seq) { return allocator_.view(seq).slot(last); };
  const bool one = std::all_of(group.sequences.begin(), group.sequences.end(), [&](SeqId seq) {
    return slot(seq) == slot(group.sequences.front());
  });
  return one ? 1 : group.sequences.size();
}

void StepRows::check_run(std::int64_t first, std::int64_t length) const {
  KVSTOW_CHECK(first >= 0 && first + length <= limits_.slots.count(),
               "a view points outside the pool");
}

void StepRows::add_maps() {
  Tokens longest{0};
  for (const Member& m : members_) longest = max(longest, m.group->first + m.group->count);
  KVSTOW_CHECK(longest <= limits_.positions, "a sequence is longer than the model's positions");
  const Tokens block = members_.front().view.block_tokens;
  rows_.block_tokens = static_cast<int>(block.count());
  rows_.map_rows = static_cast<int>(members_.size());
  if (rows_.block_tokens > 0) {
    rows_.table_stride = ceil_div(longest.count(), rows_.block_tokens);
    rows_.table.resize(members_.size() * static_cast<std::size_t>(rows_.table_stride));
  }
  std::int32_t* table = rows_.table.data();
  for (const Member& m : members_) {
    const Tokens end = m.group->first + m.group->count;
    KVSTOW_CHECK(m.view.block_tokens == block, "one kind of map for each step");
    KVSTOW_CHECK(end <= m.view.capacity, "a sequence has fewer slots than tokens");
    if (m.view.is_extent()) {
      check_run(m.view.first.index(), end.count());
      rows_.first.push_back(m.view.first.index());
      continue;
    }
    const auto blocks = static_cast<std::size_t>(ceil_div(end.count(), rows_.block_tokens));
    std::uint32_t largest = 0;
    // A batch has tens of thousands of these: nothing else in this loop.
    for (std::size_t b = 0; b < blocks; ++b) {
      const std::uint32_t id = m.view.blocks[b].index();
      table[b] = static_cast<std::int32_t>(id);
      largest = std::max(largest, id);
    }
    check_run(std::int64_t{largest} * rows_.block_tokens, rows_.block_tokens);
    std::fill(table + blocks, table + rows_.table_stride, -1);
    table += rows_.table_stride;
  }
}

void StepRows::add_row(const Member& member, Tokens position, TokenHistories& histories) {
  rows_.token.push_back(histories.token_at(member.seq, *member.group->request, position));
  rows_.position.push_back(static_cast<std::int32_t>(position.count()));
  rows_.slot.push_back(member.view.slot(position).index());
}

void StepRows::add_prompt_rows(const Member& member, std::int32_t map_row,
                               TokenHistories& histories) {
  const StepGroup& group = *member.group;
  const Tokens end = min(group.first + group.count, group.request->prompt);
  if (group.first >= end) return;
  for (Tokens p = group.first; p < end; ++p) add_row(member, p, histories);
  rows_.prefill_begin.push_back(rows_.rows());
  rows_.prefill_map.push_back(map_row);
  rows_.prefill_first.push_back(static_cast<std::int32_t>(group.first.count()));
}

// What of the group's first tokens was there before this step. A request that comes back may lie on
// a prefix which this very step computes.
Tokens StepRows::stored_before(const StepGroup& group) const {
  const bool computed_now =
      std::find(prefixes_.begin(), prefixes_.end(), group.request->prefix) != prefixes_.end();
  return computed_now ? Tokens(0) : group.first;
}

// One decode row each, also when several are recomputed at once: all of them write their K and V
// before any of them reads.
void StepRows::add_generated_rows(const Member& member, std::int32_t map_row,
                                  TokenHistories& histories) {
  const StepGroup& group = *member.group;
  const Tokens end = group.first + group.count;
  const Tokens stable = stored_before(group);
  for (Tokens p = max(group.first, group.request->prompt); p < end; ++p) {
    add_row(member, p, histories);
    rows_.decode_map.push_back(map_row);
    rows_.decode_length.push_back(static_cast<std::int32_t>(p.count()) + 1);
    rows_.decode_stable.push_back(static_cast<std::int32_t>(stable.count()));
  }
}

}  // namespace kvstow
