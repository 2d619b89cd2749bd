// Dense sequence ids, recycled last-in-first-out so that tables indexed by them stay small.
#pragma once

#include <vector>

#include "core/types.h"

namespace kvstow {

class SeqIds {
 public:
  [[nodiscard]] SeqId take() {
    if (free_.empty()) return SeqId(next_++);
    const SeqId id = free_.back();
    free_.pop_back();
    return id;
  }
  void give_back(SeqId id) { free_.push_back(id); }

 private:
  std::vector<SeqId> free_;
  SeqId::Rep next_ = 0;
};

}  // namespace kvstow
