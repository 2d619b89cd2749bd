// A tier's memory with one number per slot instead of K and V: what CheckedAllocator writes to and
// reads from.
#pragma once

#include <cstdint>
#include <vector>

#include "core/check.h"
#include "core/types.h"

namespace kvstow {

// Names one token of one history; equal only where the K and V must be equal. 0 = dead.
using Content = std::uint64_t;

class ShadowTier {
 public:
  [[nodiscard]] Content content(Slot slot) const {
    return has(slot) ? cell(slot).content : Content{0};
  }
  [[nodiscard]] std::uint32_t readers(Slot slot) const {
    return has(slot) ? cell(slot).readers : 0;
  }
  [[nodiscard]] bool held(Slot slot) const { return has(slot) && cell(slot).held; }
  [[nodiscard]] Tokens held() const { return held_; }  // slots behind some view
  [[nodiscard]] Tokens live() const { return live_; }  // slots that some sequence reads

  void store(Slot slot, Content content) { reach(slot).content = content; }

  // A sequence starts, or stops, to read `slot`.
  void map(Slot slot) {
    if (reach(slot).readers++ == 0) ++live_;
  }
  void unmap(Slot slot) {
    if (--reach(slot).readers == 0) live_ -= Tokens(1);
  }

  // `slot` stands behind a view.
  void hold(Slot slot) {
    Cell& cell = reach(slot);
    if (!cell.held) ++held_;
    cell.held = true;
  }
  void free(Slot slot) {
    Cell& freed = reach(slot);
    freed.held = false;
    freed.content = 0;
    held_ -= Tokens(1);
  }

 private:
  struct Cell {
    Content content = 0;
    std::uint32_t readers = 0;  // sequences that map a filled position here
    bool held = false;
  };

  [[nodiscard]] bool has(Slot slot) const {
    return slot >= Slot(0) && slot < Slot(static_cast<std::int64_t>(cells_.size()));
  }
  [[nodiscard]] const Cell& cell(Slot slot) const {
    return cells_[static_cast<std::size_t>(slot.index())];
  }
  [[nodiscard]] Cell& reach(Slot slot) {
    KVSTOW_CHECK(slot.index() >= 0, "a slot has a negative index");
    if (!has(slot)) cells_.resize(static_cast<std::size_t>(slot.index()) + 1);
    return cells_[static_cast<std::size_t>(slot.index())];
  }

  std::vector<Cell> cells_;  // [slot]; grows as slots are seen
  Tokens held_{0};
  Tokens live_{0};
};

}  // namespace kvstow
