// From a Step to the rows of a forward pass: the same for every executor that computes.
#pragma once

#include <vector>

#include "core/exec/rows/forward_rows.h"
#include "core/exec/rows/token_histories.h"
#include "core/exec/step.h"
#include "core/kv/kv_allocator.h"

namespace kvstow {

// One drawing group of a step: the logits rows of its members are consecutive.
struct Draw {
  const StepGroup* group;
  int first_row;
  int rows;  // 1 while the members share a history, otherwise one each
};

class StepRows {
 public:
  struct Limits {
    Tokens positions{0};  // longest sequence of the model
    Tokens slots{0};      // of the pool
  };

  // The allocator must outlive this.
  StepRows(const KvAllocator&, const Limits&);

  // Reads the allocator as it is now. Throws InvariantError where a view points outside the pool or
  // a sequence has fewer slots than tokens.
  void collect(const Step&, TokenHistories&);

  [[nodiscard]] ForwardRows& rows() { return rows_; }
  [[nodiscard]] const std::vector<Draw>& draws() const { return draws_; }

 private:
  struct Member {
    const StepGroup* group;
    SeqId seq;
    KvView view;
    std::int32_t last_row;
  };

  void collect_members(const Step&);
  void add_maps();
  void add_prompt_rows(const Member&, std::int32_t map_row, TokenHistories&);
  void add_generated_rows(const Member&, std::int32_t map_row, TokenHistories&);
  void add_row(const Member&, Tokens position, TokenHistories&);
  void check_run(std::int64_t first, std::int64_t length) const;
  [[nodiscard]] std::size_t members_to_compute(const StepGroup&) const;
  [[nodiscard]] Tokens stored_before(const StepGroup&) const;

  const KvAllocator& allocator_;
  Limits limits_;
  std::vector<Member> members_;
  std::vector<PrefixId> prefixes_;  // made resident by the step
  ForwardRows rows_;
  std::vector<Draw> draws_;
};

}  // namespace kvstow
