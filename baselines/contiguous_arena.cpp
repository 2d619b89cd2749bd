#include "baselines/contiguous_arena.h"

#include <vector>

#include "baselines/free_run_index.h"
#include "core/check.h"

namespace kvstow {
namespace {

template <class Index>
class ContiguousArena final : public Arena {
 public:
  explicit ContiguousArena(std::int64_t blocks)
      : Arena(blocks),
        starts_(static_cast<std::size_t>(blocks), 0),
        ends_(static_cast<std::size_t>(blocks), 0),
        index_(blocks) {
    if (blocks > 0) insert({0, blocks});
  }

  BlockRun take(std::int64_t blocks) override {
    const std::int64_t first = index_.find(blocks);
    if (first == kNoRun) return {};
    const BlockRun run{first, length_at(first)};
    remove(run);
    if (run.length > blocks) insert({first + blocks, run.length - blocks});
    free_ -= blocks;
    return {first, blocks};
  }

  void give(BlockRun run) override {
    free_ += run.length;
    const std::int64_t end = run.first + run.length;
    if (end < total() && length_at(end) > 0) {
      const BlockRun right{end, length_at(end)};
      remove(right);
      run.length += right.length;
    }
    if (run.first > 0) {
      if (const std::int64_t length = ends_[static_cast<std::size_t>(run.first - 1)]; length > 0) {
        const BlockRun left{run.first - length, length};
        remove(left);
        run = {left.first, left.length + run.length};
      }
    }
    insert(run);
  }

  [[nodiscard]] bool can_extend(BlockRun run, std::int64_t blocks) const override {
    const std::int64_t more = blocks - run.length;
    const std::int64_t end = run.first + run.length;
    return more <= 0 || (end < total() && length_at(end) >= more);
  }

  BlockRun extend(BlockRun run, std::int64_t blocks) override {
    const std::int64_t more = blocks - run.length;
    if (more <= 0) return run;
    const std::int64_t end = run.first + run.length;
    const BlockRun right{end, length_at(end)};
    remove(right);
    if (right.length > more) insert({end + more, right.length - more});
    free_ -= more;
    return {run.first, blocks};
  }

  [[nodiscard]] std::int64_t granted(std::int64_t blocks) const override { return blocks; }
  [[nodiscard]] Bytes metadata() const override {
    return Bytes(static_cast<std::int64_t>((starts_.size() + ends_.size()) * sizeof(Tag))) +
           index_.metadata();
  }

  void check() const override {
    std::int64_t listed = 0;
    std::int64_t longest = 0;
    std::size_t tags = 0;
    for (std::int64_t b = 0; b < total();) {
      const std::int64_t length = length_at(b);
      if (length == 0) {
        ++b;
        continue;
      }
      KVSTOW_CHECK(b + length <= total(), "a free run lies inside the pool");
      KVSTOW_CHECK(ends_[static_cast<std::size_t>(b + length - 1)] == static_cast<Tag>(length),
                   "both ends of a free run know its length");
      KVSTOW_CHECK(b + length == total() || length_at(b + length) == 0,
                   "neighbouring free runs are merged");
      listed += length;
      longest = length > longest ? length : longest;
      ++tags;
      b += length;
    }
    std::size_t starts = 0;
    std::size_t ends = 0;
    for (const Tag tag : starts_) starts += tag > 0 ? 1 : 0;
    for (const Tag tag : ends_) ends += tag > 0 ? 1 : 0;
    KVSTOW_CHECK(starts == tags && ends == tags, "free runs do not overlap");
    KVSTOW_CHECK(listed == free_, "free runs add up to the free blocks");
    KVSTOW_CHECK(index_.find(longest + 1) == kNoRun, "the index knows no run that is not there");
    KVSTOW_CHECK(longest == 0 || length_at(index_.find(longest)) == longest,
                 "the index finds the longest run");
  }

 private:
  using Tag = std::uint32_t;

  [[nodiscard]] std::int64_t length_at(std::int64_t first) const {
    return starts_[static_cast<std::size_t>(first)];
  }
  void insert(BlockRun run) {
    tag(run, run.length);
    index_.insert(run.first, run.length);
  }
  void remove(BlockRun run) {
    tag(run, 0);
    index_.remove(run.first, run.length);
  }
  void tag(BlockRun run, std::int64_t length) {
    starts_[static_cast<std::size_t>(run.first)] = static_cast<Tag>(length);
    ends_[static_cast<std::size_t>(run.first + run.length - 1)] = static_cast<Tag>(length);
  }

  std::vector<Tag> starts_;  // [block] length of the free run that starts there, or 0
  std::vector<Tag> ends_;    // [block] length of the free run that ends there, or 0
  Index index_;
};

}  // namespace

std::unique_ptr<Arena> make_contiguous_arena(Fit fit, std::int64_t blocks) {
  if (fit == Fit::first) return std::make_unique<ContiguousArena<FirstFitIndex>>(blocks);
  return std::make_unique<ContiguousArena<BestFitIndex>>(blocks);
}

}  // namespace kvstow
