#include "core/kv/paged_allocator.h"

#include <algorithm>

namespace kvstow {

PagedAllocator::PagedAllocator(const PoolConfig& config)
    : block_(config.block_tokens),
      block_tokens_(static_cast<Count>(block_.tokens())),
      device_(Blocks(block_.whole_blocks(config.device_slots))),
      host_(Blocks(block_.whole_blocks(config.host_slots))) {}

PagedAllocator::Sequence& PagedAllocator::known(SeqId id) {
  KVSTOW_DCHECK(id.index() < sequences_.size() && sequences_[id.index()].length > 0,
                "unknown sequence");
  return sequences_[id.index()];
}

const PagedAllocator::Sequence& PagedAllocator::known(SeqId id) const {
  KVSTOW_DCHECK(id.index() < sequences_.size() && sequences_[id.index()].length > 0,
                "unknown sequence");
  return sequences_[id.index()];
}

bool PagedAllocator::fits_empty_pool(const AdmitRequest& request) const {
  const auto members = static_cast<std::int64_t>(request.group.size());
  const std::int64_t full = members * blocks_for(request.expected_total.count());
  return full + members + blocks_for(request.keep_free.count()) <= device_.pool.total();
}

const PagedAllocator::Sequence* PagedAllocator::lender(const AdmitRequest& request) const {
  if (!request.prefix.valid() || request.prefix_tokens == Tokens(0)) return nullptr;
  const Sequence& sequence = known(request.prefix);
  KVSTOW_CHECK(
      request.prefix_tokens <= request.prompt && request.prefix_tokens <= Tokens(sequence.length),
      "a prefix must be shorter than its lender and its borrower");
  return sequence.tier == Tier::device ? &sequence : nullptr;
}

AllocResult PagedAllocator::admit(const AdmitRequest& request, MemPlan& plan) {
  if (!fits_empty_pool(request)) return {AllocStatus::never};
  const Count prompt = static_cast<Count>(request.prompt.count());
  const Sequence* from = lender(request);
  const Count cached = from != nullptr ? static_cast<Count>(request.prefix_tokens.count()) : 0;
  const Count rest = static_cast<Count>(block_.rest(cached));
  const Count borrowed = (cached - rest) / block_tokens_;
  const Count blocks = blocks_for(prompt);
  const std::size_t tables = request.share_prompt ? 1 : request.group.size();

  const std::int64_t needed = static_cast<std::int64_t>(tables) * (blocks - borrowed);
  if (device_.pool.free() - needed < blocks_for(request.keep_free.count())) {
    return {AllocStatus::no_memory};
  }

  for (const SeqId id : request.group) {
    if (id.index() >= sequences_.size()) sequences_.resize(id.index() + 1);
    KVSTOW_DCHECK(sequences_[id.index()].length == 0, "a sequence is admitted twice");
  }
  if (from != nullptr) from = &sequences_[request.prefix.index()];  // resize may have moved it

  for (std::size_t i = 0; i < request.group.size(); ++i) {
    Sequence& sequence = sequences_[request.group[i].index()];
    sequence.length = prompt;
    sequence.tier = Tier::device;
    if (i < tables) {
      if (borrowed > 0) {
        const auto whole = std::span(from->table).first(static_cast<std::size_t>(borrowed));
        sequence.table.assign(whole.begin(), whole.end());
        device_.pool.share(whole);
      }
      for (Count b = borrowed; b < blocks; ++b) sequence.table.push_back(device_.pool.take());
      device_.live += prompt - borrowed * block_tokens_;
      if (rest > 0) {
        const auto partial = static_cast<std::size_t>(borrowed);
        plan.copy(slot_of(from->table[partial]), slot_of(sequence.table[partial]), Tokens(rest));
      }
    } else {
      const std::vector<BlockId>& table = sequences_[request.group[0].index()].table;
      device_.pool.share(table);
      sequence.table.assign(table.begin(), table.end());
    }
    const bool alone = tables == request.group.size();
    sequence.writable = alone ? blocks * block_tokens_ : prompt;
    device_.logical += prompt;
    device_.table_entries += blocks;
  }
  return {AllocStatus::ok, Tokens(cached)};
}

AllocStatus PagedAllocator::grow(std::span<const SeqId> group, Tokens new_length, MemPlan& plan) {
  const Count length = static_cast<Count>(new_length.count());
  if (group.size() == 1 &&
      device_.pool.free() > 0) {  // most calls of most runs: a handful of loads
    Sequence& sequence = known(group.front());
    KVSTOW_DCHECK(sequence.tier == Tier::device, "growing a swapped sequence");
    KVSTOW_DCHECK(sequence.length <= length, "grow cannot shorten a sequence");
    if (length <= sequence.writable) {
      device_.live += length - sequence.length;
      device_.logical += length - sequence.length;
      sequence.length = length;
      return AllocStatus::ok;
    }
  }
  std::int64_t added = 0;
  for (const SeqId id : group) {
    const Sequence& sequence = known(id);
    KVSTOW_DCHECK(sequence.tier == Tier::device, "growing a swapped sequence");
    KVSTOW_DCHECK(sequence.length <= length, "grow cannot shorten a sequence");
    if (sequence.writable < length) return grow_slow(group, length, plan);
    added += length - sequence.length;
  }
  if (device_.pool.free() < static_cast<std::int64_t>(group.size()) && added > 0) {
    return AllocStatus::no_memory;
  }
  for (const SeqId id : group) sequences_[id.index()].length = length;
  device_.live += added;
  device_.logical += added;
  return AllocStatus::ok;
}

AllocStatus PagedAllocator::grow_slow(std::span<const SeqId> group, Count new_length,
                                      MemPlan& plan) {
  BlockPool& pool = device_.pool;
  const Count new_blocks = blocks_for(new_length);

  // Count exactly. Of k sequences that share a last block the last one left writes in place, so
  // references are given up while counting, and taken back on failure.
  std::int64_t needed = 0;
  to_copy_.clear();
  for (const SeqId id : group) {
    const Sequence& sequence = sequences_[id.index()];
    if (sequence.length == new_length) continue;
    needed += new_blocks - static_cast<Count>(sequence.table.size());
    if (block_.rest(sequence.length) == 0) continue;
    if (const BlockId last = sequence.table.back(); pool.references(last) > 1) {
      pool.drop(last);
      to_copy_.push_back(id);
      ++needed;
    }
  }
  if (pool.free() < std::max(needed, static_cast<std::int64_t>(group.size()))) {
    for (const SeqId id : to_copy_) pool.share(sequences_[id.index()].table.back());
    return AllocStatus::no_memory;
  }

  for (const SeqId id : to_copy_) {
    Sequence& sequence = sequences_[id.index()];
    const BlockId shared = sequence.table.back();
    const BlockId own = pool.take();
    const Count filled = fill(sequence.table.size() - 1, sequence.length);
    plan.copy(slot_of(shared), slot_of(own), Tokens(filled));
    sequence.table.back() = own;
    device_.live += filled;
  }
  for (const SeqId id : group) {
    Sequence& sequence = sequences_[id.index()];
    if (sequence.length == new_length) continue;
    const auto old_blocks = static_cast<Count>(sequence.table.size());
    for (Count b = old_blocks; b < new_blocks; ++b) sequence.table.push_back(pool.take());
    device_.table_entries += new_blocks - old_blocks;
    device_.live += new_length - sequence.length;
    device_.logical += new_length - sequence.length;
    sequence.length = new_length;
    sequence.writable = new_blocks * block_tokens_;
  }
  return AllocStatus::ok;
}

// Blocks that two tables of one length share. Sharing is a trie, so they agree up to some place and
// nowhere behind it, and beams mostly parted a moment ago: gallop from the back, then bisect.
std::size_t PagedAllocator::common_blocks(std::span<const BlockId> a, std::span<const BlockId> b) {
  std::size_t differs = a.size();  // all from here on differ
  std::size_t stride = 1;
  while (differs >= stride && a[differs - stride] != b[differs - stride]) {
    differs -= stride;
    stride *= 2;
  }
  std::size_t equal = differs >= stride ? differs - stride + 1 : 0;  // all before here are equal
  while (equal < differs) {
    const std::size_t middle = (equal + differs) / 2;
    if (a[middle] == b[middle])
      equal = middle + 1;
    else
      differs = middle;
  }
  return equal;
}

AllocStatus PagedAllocator::reorder(std::span<const Fork> forks, MemPlan& plan) {
  // Share first, on the tables as they are before the call, so that no block is freed that a later
  // fork still wants.
  taken_over_.clear();
  common_.clear();
  for (const Fork& fork : forks) {
    Sequence& parent = known(fork.parent);
    const Sequence& child = known(fork.child);
    KVSTOW_DCHECK(parent.tier == Tier::device && child.tier == Tier::device,
                  "reordering a swapped sequence");
    KVSTOW_DCHECK(parent.length == child.length, "beams of one group have one length");
    const std::size_t common = common_blocks(parent.table, child.table);
    const auto differing = std::span(parent.table).subspan(common);
    device_.pool.share(differing);
    taken_over_.insert(taken_over_.end(), differing.data(), differing.data() + differing.size());
    common_.push_back(common);
    if (common < parent.table.size()) parent.writable = parent.length;
  }

  const std::int64_t free_before = device_.pool.free();
  const BlockId* taken = taken_over_.data();
  for (std::size_t f = 0; f < forks.size(); ++f) {
    Sequence& child = sequences_[forks[f].child.index()];
    const auto differing = std::span(child.table).subspan(common_[f]);
    if (differing.empty()) continue;
    // All but the last of them are full.
    if (device_.pool.references(differing.back()) == 1) {
      device_.live += block_tokens_ - fill(child.table.size() - 1, child.length);
    }
    device_.pool.drop(differing);
    std::copy_n(taken, differing.size(), differing.data());
    taken += differing.size();
    child.writable = child.length;
  }
  device_.live -= (device_.pool.free() - free_before) * block_tokens_;
  plan_frees(Tier::device, free_before, plan);
  return AllocStatus::ok;
}

// Neighbouring blocks make one operation, in whichever direction they were freed.
void PagedAllocator::plan_frees(Tier t, std::int64_t free_before, MemPlan& plan) const {
  const auto freed = tier(t).pool.free_list().subspan(static_cast<std::size_t>(free_before));
  if (freed.empty()) return;
  std::int64_t first = freed[0].index();
  std::int64_t end = first;  // the run so far is [first, end)
  for (const BlockId block : freed) {
    const std::int64_t b = block.index();
    if (b == end) {
      ++end;
    } else if (b + 1 == first) {
      --first;
    } else {
      plan.free(t, Slot(first * block_tokens_), Tokens((end - first) * block_tokens_));
      first = b;
      end = b + 1;
    }
  }
  plan.free(t, Slot(first * block_tokens_), Tokens((end - first) * block_tokens_));
}

AllocStatus PagedAllocator::swap_out(std::span<const SeqId> group, MemPlan& plan) {
  return move(group, Tier::device, Tier::host, 0, plan);
}

AllocStatus PagedAllocator::swap_in(std::span<const SeqId> group, Tokens keep_free, MemPlan& plan) {
  const std::int64_t spare =
      static_cast<std::int64_t>(group.size()) + blocks_for(keep_free.count());
  return move(group, Tier::host, Tier::device, spare, plan);
}

AllocStatus PagedAllocator::move(std::span<const SeqId> group, Tier from, Tier to,
                                 std::int64_t spare, MemPlan& plan) {
  TierState& source = tier(from);
  TierState& target = tier(to);
  constexpr BlockId kPending(std::numeric_limits<BlockId::Rep>::max() - 1);
  moved_.resize(static_cast<std::size_t>(std::max(source.pool.total(), target.pool.total())));

  taken_over_.clear();  // here: the distinct source blocks
  for (const SeqId id : group) {
    const Sequence& sequence = known(id);
    KVSTOW_DCHECK(sequence.tier == from, "the sequence is not in that tier");
    for (const BlockId block : sequence.table) {
      if (moved_[block.index()].valid()) continue;
      moved_[block.index()] = kPending;
      taken_over_.push_back(block);
    }
  }
  const bool fits = target.pool.free() - static_cast<std::int64_t>(taken_over_.size()) >= spare;
  if (fits) {
    const std::int64_t free_before = source.pool.free();
    for (const SeqId id : group) {
      Sequence& sequence = sequences_[id.index()];
      for (std::size_t i = 0; i < sequence.table.size(); ++i) {
        const BlockId old = sequence.table[i];
        const Count filled = fill(i, sequence.length);
        BlockId& now = moved_[old.index()];
        if (now == kPending) {
          now = target.pool.take();
          target.live += filled;
          if (from == Tier::device)
            plan.swap_out(slot_of(old), slot_of(now), Tokens(filled));
          else
            plan.swap_in(slot_of(old), slot_of(now), Tokens(filled));
        } else {
          target.pool.share(now);
        }
        sequence.table[i] = now;
        if (source.pool.drop(old)) source.live -= filled;
      }
      sequence.tier = to;
      sequence.writable = sequence.length;
      const auto entries = static_cast<std::int64_t>(sequence.table.size());
      source.logical -= sequence.length;
      target.logical += sequence.length;
      source.table_entries -= entries;
      target.table_entries += entries;
    }
    plan_frees(from, free_before, plan);
  }
  for (const BlockId block : taken_over_) moved_[block.index()] = BlockId();
  return fits ? AllocStatus::ok : AllocStatus::no_memory;
}

void PagedAllocator::release(SeqId id, MemPlan& plan) {
  Sequence& sequence = known(id);
  TierState& state = tier(sequence.tier);
  const std::int64_t free_before = state.pool.free();
  for (std::size_t i = sequence.table.size();
       i-- > 0;) {  // so that the list hands them out in order
    if (state.pool.drop(sequence.table[i])) state.live -= fill(i, sequence.length);
  }
  plan_frees(sequence.tier, free_before, plan);
  state.logical -= sequence.length;
  state.table_entries -= static_cast<std::int64_t>(sequence.table.size());
  sequence.table.clear();
  sequence.length = 0;
  sequence.writable = 0;
}

KvView PagedAllocator::view(SeqId id) const {
  const Sequence& sequence = known(id);
  KvView view;
  view.blocks = sequence.table;
  view.block_tokens = Tokens(block_tokens_);
  view.capacity = Tokens(static_cast<std::int64_t>(sequence.table.size()) * block_tokens_);
  return view;
}

KvStats PagedAllocator::stats(Tier t) const {
  const TierState& state = tier(t);
  KvStats stats;
  stats.capacity = Tokens(state.pool.total() * block_tokens_);
  stats.held = Tokens(state.pool.used() * block_tokens_);
  stats.live = Tokens(state.live);
  stats.logical = Tokens(state.logical);
  stats.metadata = state.pool.metadata() +
                   Bytes(state.table_entries * static_cast<std::int64_t>(sizeof(BlockId)));
  return stats;
}

void PagedAllocator::check_invariants(CheckLevel level) const {
  for (const TierState* state : {&device_, &host_}) {
    KVSTOW_CHECK(state->live >= 0 && state->live <= state->pool.used() * block_tokens_,
                 "live slots are held slots");
    KVSTOW_CHECK(state->logical >= state->live, "every live slot belongs to some sequence");
    KVSTOW_CHECK(state->table_entries >= state->pool.used(), "every used block stands in a table");
  }
  if (level == CheckLevel::cheap) return;
  check_tier(Tier::device);
  check_tier(Tier::host);
}

// Rebuilds reference counts, fills and sums from the tables.
void PagedAllocator::check_tier(Tier t) const {
  struct Seen {
    std::uint32_t references = 0;
    Count filled = 0;
    std::size_t position = 0;
    BlockId before;  // the block in front of it in every table
  };
  const TierState& state = tier(t);
  std::vector<Seen> seen(static_cast<std::size_t>(state.pool.total()));
  std::int64_t live = 0;
  std::int64_t logical = 0;
  std::int64_t entries = 0;
  for (const Sequence& sequence : sequences_) {
    if (sequence.length == 0) {
      KVSTOW_CHECK(sequence.table.empty(), "an unknown sequence holds blocks");
      continue;
    }
    if (sequence.tier != t) continue;
    KVSTOW_CHECK(sequence.table.size() == static_cast<std::size_t>(blocks_for(sequence.length)),
                 "a table has as many blocks as its tokens need");
    KVSTOW_CHECK(sequence.writable >= sequence.length &&
                     sequence.writable <= static_cast<Count>(sequence.table.size()) * block_tokens_,
                 "writable lies between length and capacity");
    KVSTOW_CHECK(
        sequence.writable == sequence.length || state.pool.references(sequence.table.back()) == 1,
        "a shared block is never writable");
    for (std::size_t i = 0; i < sequence.table.size(); ++i) {
      const BlockId block = sequence.table[i];
      const BlockId before = i > 0 ? sequence.table[i - 1] : BlockId();
      const Count filled = fill(i, sequence.length);
      Seen& s = seen.at(block.index());
      if (s.references++ == 0) {
        s = {1, filled, i, before};
        live += filled;
      }
      KVSTOW_CHECK(s.filled == filled, "sharers of a block agree on its fill");
      KVSTOW_CHECK(s.position == i && s.before == before, "sharing is a trie");
    }
    logical += sequence.length;
    entries += static_cast<std::int64_t>(sequence.table.size());
  }
  for (std::size_t b = 0; b < seen.size(); ++b) {
    KVSTOW_CHECK(seen[b].references == state.pool.references(BlockId(static_cast<BlockId::Rep>(b))),
                 "a block's references are the tables it stands in");
  }
  std::vector<bool> listed(seen.size());
  for (const BlockId block : state.pool.free_list()) {
    KVSTOW_CHECK(seen.at(block.index()).references == 0, "a used block is on the free list");
    KVSTOW_CHECK(!listed[block.index()], "a block is on the free list twice");
    listed[block.index()] = true;
  }
  const auto used = static_cast<std::int64_t>(
      std::count_if(seen.begin(), seen.end(), [](const Seen& s) { return s.references > 0; }));
  KVSTOW_CHECK(used == state.pool.used(), "a block is neither used nor free");
  KVSTOW_CHECK(live == state.live && logical == state.logical && entries == state.table_entries,
               "the counters of a tier equal the sums over its sequences");
}

}  // namespace kvstow
