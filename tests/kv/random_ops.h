// Random operations on an allocator, all decodings mixed: single sequences, samples with shared and
// unshared prompts, beams under arbitrary forks, shared prefixes, swaps, members that leave early.
#pragma once

#include <algorithm>
#include <array>
#include <numeric>
#include <vector>

#include "core/kv/kv_allocator.h"
#include "core/rng.h"

namespace kvstow {

class RandomOps {
 public:
  RandomOps(KvAllocator& allocator, Tokens longest, std::uint64_t seed)
      : allocator_(allocator), longest_(longest), random_(seed, "allocator operations") {}

  // One operation, or an attempt at one.
  void step() {
    plan_.clear();
    const std::uint32_t draw = random_.below(100);
    if (groups_.empty() || draw < 16) return admit();
    const std::size_t g = random_.below(static_cast<std::uint32_t>(groups_.size()));
    if (draw < 70) return grow(groups_[g]);
    if (draw < 82) return reorder(groups_[g]);
    if (draw < 90) return swap(groups_[g]);
    if (draw < 94) return release_member(g);
    release(g);
  }

  // Releases everything, after which every slot of both tiers must be free.
  void drain() {
    while (!groups_.empty()) {
      plan_.clear();
      release(groups_.size() - 1);
    }
  }

  // Calls made so far that ended in `status`; all of them.
  [[nodiscard]] std::int64_t calls(AllocStatus status) const {
    return results_[static_cast<std::size_t>(status)];
  }
  [[nodiscard]] std::int64_t calls() const {
    return std::accumulate(results_.begin(), results_.end(), std::int64_t{0});
  }
  [[nodiscard]] const MemPlan& plan() const { return plan_; }
  // The members of some group on the device; none where there is no such group.
  [[nodiscard]] std::span<const SeqId> resident() const {
    const auto found = std::find_if(groups_.begin(), groups_.end(),
                                    [](const Group& g) { return g.tier == Tier::device; });
    return found == groups_.end() ? std::span<const SeqId>() : found->members;
  }

 private:
  struct Group {
    std::vector<SeqId> members;
    Tokens length;
    Tokens expected;
    Tier tier = Tier::device;
  };

  AllocStatus count(AllocStatus status) {
    ++results_[static_cast<std::size_t>(status)];
    return status;
  }
  [[nodiscard]] Tokens up_to(Tokens n) {
    return Tokens(1 + random_.below(static_cast<std::uint32_t>(n.count())));
  }

  void admit() {
    Group group;
    const std::uint32_t width = random_.below(2) == 0 ? 1 : 2 + random_.below(5);
    for (std::uint32_t i = 0; i < width; ++i) group.members.push_back(take_id());
    group.length = up_to(Tokens(longest_ / Tokens(2)));
    group.expected = min(longest_, group.length + up_to(Tokens(longest_ / Tokens(2))));
    AdmitRequest request{.group = group.members,
                         .prompt = group.length,
                         .expected_total = group.expected,
                         .keep_free = Tokens(random_.below(3) * 16),
                         .share_prompt = random_.below(3) > 0};
    if (!groups_.empty() && random_.below(3) == 0) {
      const Group& lender = groups_[random_.below(static_cast<std::uint32_t>(groups_.size()))];
      request.prefix = lender.members.front();
      request.prefix_tokens = up_to(min(group.length, lender.length));
    }
    if (count(allocator_.admit(request, plan_).status) == AllocStatus::ok) {
      groups_.push_back(std::move(group));
    } else {
      unused_.insert(unused_.end(), group.members.begin(), group.members.end());
    }
  }

  void grow(Group& group) {
    if (group.tier != Tier::device) return;
    // Mostly a token at a time, as a decode does; at times many, also past what was expected.
    const Tokens more = random_.below(8) == 0 ? Tokens(random_.below(50)) : Tokens(1);
    const Tokens new_length = min(longest_, group.length + more);
    if (new_length > group.expected && random_.below(4) > 0) return;
    if (count(allocator_.grow(group.members, new_length, plan_)) == AllocStatus::ok) {
      group.length = new_length;
    }
  }

  void reorder(Group& group) {
    if (group.tier != Tier::device) return;
    const auto width = static_cast<std::uint32_t>(group.members.size());
    std::vector<Fork> forks;
    for (const SeqId child : group.members) {
      if (random_.below(2) == 0) forks.push_back({group.members[random_.below(width)], child});
    }
    count(allocator_.reorder(forks, plan_));
  }

  void swap(Group& group) {
    const bool out = group.tier == Tier::device;
    const AllocStatus status = out ? allocator_.swap_out(group.members, plan_)
                                   : allocator_.swap_in(group.members, Tokens(0), plan_);
    if (count(status) == AllocStatus::ok) group.tier = out ? Tier::host : Tier::device;
  }

  void release_member(std::size_t g) {
    Group& group = groups_[g];
    if (group.members.size() == 1) return release(g);
    const std::size_t m = random_.below(static_cast<std::uint32_t>(group.members.size()));
    release_id(group.members[m]);
    group.members.erase(group.members.begin() + static_cast<std::ptrdiff_t>(m));
  }

  void release(std::size_t g) {
    for (const SeqId id : groups_[g].members) release_id(id);
    std::swap(groups_[g], groups_.back());
    groups_.pop_back();
  }

  void release_id(SeqId id) {
    allocator_.release(id, plan_);
    unused_.push_back(id);
    count(AllocStatus::ok);
  }

  SeqId take_id() {
    if (unused_.empty()) return SeqId(ids_++);
    const SeqId id = unused_.back();
    unused_.pop_back();
    return id;
  }

  KvAllocator& allocator_;
  Tokens longest_;
  RandomStream random_;
  MemPlan plan_;
  std::vector<Group> groups_;
  std::vector<SeqId> unused_;
  SeqId::Rep ids_ = 0;
  std::array<std::int64_t, 4> results_{};  // [AllocStatus]
};

}  // namespace kvstow
