// How the blocks of a team hand each other an item's results (decode_attention.cuh, share()), as a
// model on the host: barriers whose parity tells a phase from the next one only, bytes that arrive
// late, blocks at different speeds. Every run must come to its end, and nobody may send to a block
// that has left.
#include <gtest/gtest.h>

#include <algorithm>
#include <string>
#include <vector>

#include "core/rng.h"
#include "kernels/cuda/decode_plan.h"

namespace kvstow::kernels::cuda {
namespace {

// An mbarrier of one arrival.
struct Barrier {
  int phase = 0;
  bool arrived = false;
  int bytes = 0;  // expected and not here yet; fewer than none while nothing is expected

  void expect(int more) {
    bytes += more;
    arrived = true;
    complete(0);
  }
  void complete(int some) {
    bytes -= some;
    if (!arrived || bytes != 0) return;
    arrived = false;
    ++phase;
  }
  [[nodiscard]] bool passed(int parity) const { return phase % 2 != parity; }
};

struct Item {
  std::int32_t length;
  int heads;  // of its tile
};

constexpr int kStateBytes = 528;
constexpr int kNothingBytes = 16;

class Team {
 public:
  Team(int team, std::vector<Item> items, bool uneven, std::uint64_t seed)
      : team_(team), uneven_(uneven), items_(std::move(items)), random_(seed, "team") {
    const auto size = static_cast<std::size_t>(team * kTileHeads);
    full_.resize(size);
    empty_.resize(size);
    warps_.resize(size);
    speed_.resize(static_cast<std::size_t>(team));
    for (int& s : speed_) s = 1 + static_cast<int>(random_.below(2) * random_.below(30));
  }

  // Empty, or what went wrong.
  std::string run() {
    for (int idle = 0; idle < 20'000; ++idle) {
      if (!flying_.empty() && random_.below(4) == 0) {
        const auto which = random_.below(static_cast<std::uint32_t>(flying_.size()));
        std::swap(flying_[which], flying_.back());
        full_[flying_.back().to].complete(flying_.back().bytes);
        flying_.pop_back();
        idle = 0;
      }
      const auto w = random_.below(static_cast<std::uint32_t>(warps_.size()));
      if (random_.below(static_cast<std::uint32_t>(speed_[w / kTileHeads])) > 0) continue;
      if (step(static_cast<int>(w))) idle = 0;
      if (!wrong_.empty()) return wrong_;
      if (std::all_of(warps_.begin(), warps_.end(), [&](const Warp& x) { return left(x); })) {
        return {};
      }
    }
    return "a warp waits for ever";
  }

 private:
  struct Warp {
    int item = 0;
    int state = 0;  // what it does next: see step()
  };
  struct Flying {
    std::size_t to;
    int bytes;
  };

  [[nodiscard]] bool left(const Warp& w) const { return w.item == static_cast<int>(items_.size()); }
  [[nodiscard]] bool gone(int block) const {
    const auto first = warps_.begin() + block * kTileHeads;
    return std::all_of(first, first + kTileHeads, [&](const Warp& w) { return left(w); });
  }
  void touch(int block) {
    if (gone(block)) wrong_ = "a block that has left is written to";
  }

  // Whether warp `at` could do something.
  bool step(int at) {
    Warp& me = warps_[static_cast<std::size_t>(at)];
    if (left(me)) return false;
    const int block = at / kTileHeads;
    const int warp = at % kTileHeads;
    const Item& item = items_[static_cast<std::size_t>(me.item)];
    const bool more = me.item + 1 < static_cast<int>(items_.size());
    const bool has_head = warp < item.heads;
    const Part part = part_of(0, 0, item.length, 0, block, team_, more);
    const int owner = warp % team_;
    const auto of_owner = static_cast<std::size_t>(owner * kTileHeads + warp);
    switch (me.state) {
      case 0: {  // the warps of a block meet at the end of a part
        const auto first = warps_.begin() + block * kTileHeads;
        if (std::any_of(first, first + kTileHeads,
                        [&](const Warp& w) { return w.item < me.item; })) {
          return false;
        }
        if (!has_head && !uneven_) return next(me);
        me.state = 1;
        return true;
      }
      case 1:
        if (me.item > 0 && !empty_[static_cast<std::size_t>(at)].passed((me.item - 1) % 2)) {
          return false;
        }
        touch(owner);
        if (!has_head || part.first() == part.end()) {
          flying_.push_back({of_owner, kNothingBytes});
        } else {
          const int states = block == 0 ? 1 : part.end() - part.first();
          for (int i = 0; i < states; ++i) flying_.push_back({of_owner, kStateBytes});
        }
        if (owner != block) return next(me);
        me.state = 2;
        return true;
      case 2: {
        const int count = state_slots(part) - (part.prefix() > 0 ? 0 : 1);
        const int without = std::max(0, team_ - leaves_of(item.length));
        full_[of_owner].expect(has_head ? count * kStateBytes + without * kNothingBytes
                                        : team_ * kNothingBytes);
        me.state = 3;
        return true;
      }
      default:
        if (!full_[of_owner].passed(me.item % 2)) return false;
        for (int b = 0; more && b < team_; ++b) {
          touch(b);
          empty_[static_cast<std::size_t>(b * kTileHeads + warp)].expect(0);
        }
        return next(me);
    }
  }
  static bool next(Warp& w) {
    ++w.item;
    w.state = 0;
    return true;
  }

  int team_;
  bool uneven_;
  std::vector<Item> items_;
  RandomStream random_;
  std::vector<Barrier> full_;
  std::vector<Barrier> empty_;
  std::vector<Warp> warps_;
  std::vector<int> speed_;
  std::vector<Flying> flying_;
  std::string wrong_;
};

TEST(DecodeTeams, EveryItemIsPutTogether) {
  RandomStream random(11, "teams");
  constexpr int kTeams[] = {2, 2, 3, 4, 8};
  constexpr int kGroups[] = {1, 2, 4, 8, 12};
  constexpr std::int32_t kLengths[] = {0, 1, 100, 128, 200, 512, 700, 3000};
  for (int trial = 0; trial < 1000; ++trial) {
    const int team = kTeams[random.below(5)];
    const int group = kGroups[random.below(5)];
    std::vector<Item> items(1 + random.below(7));
    for (std::size_t i = 0; i < items.size(); ++i) {
      const int heads =
          group <= kTileHeads ? group : (i % 2 == 0 ? kTileHeads : group - kTileHeads);
      items[i] = {kLengths[random.below(random.below(2) ? 4 : 8)], heads};
    }
    const bool uneven = group >= kTileHeads;  // as in share()
    EXPECT_EQ(Team(team, items, uneven, static_cast<std::uint64_t>(trial)).run(), "")
        << "trial " << trial << ", teams of " << team << ", group " << group;
  }
}

}  // namespace
}  // namespace kvstow::kernels::cuda
