#include "core/exec/step_law.h"

#include <algorithm>

namespace kvstow {

namespace {

struct Moved {
  Tokens in{0};
  Tokens out{0};
  Tokens copied{0};
};

Moved moved_by(const MemPlan& plan) {
  Moved moved;
  for (const MemOp& op : plan.ops()) {
    if (op.kind == MemOpKind::swap_in) moved.in += op.length;
    if (op.kind == MemOpKind::swap_out) moved.out += op.length;
    if (op.kind == MemOpKind::copy) moved.copied += op.length;
  }
  return moved;
}

double as_double(Tokens tokens) {
  return static_cast<double>(tokens.count());
}

}  // namespace

Seconds StepLaw::link_time(Tokens in, Tokens out) const {
  if (in + out == Tokens(0)) return 0;
  const auto bytes_per_token = static_cast<double>(kv_bytes_per_token.count());
  const double copies = static_cast<double>(ceil_div(in.count(), block_tokens.count()) +
                                            ceil_div(out.count(), block_tokens.count())) *
                        static_cast<double>(link.copies_per_block);
  return as_double(in) * bytes_per_token / link.bytes_per_s_in +
         as_double(out) * bytes_per_token / link.bytes_per_s_out + copies * link.per_copy;
}

Seconds StepLaw::step_time(const Step& step) const {
  const StepTotals& totals = step.totals;
  Seconds time = fixed + per_group * static_cast<double>(totals.groups) +
                 per_sequence * static_cast<double>(totals.sequences) +
                 per_kv_token * as_double(totals.kv_read);
  if (form == StepForm::max) {
    const Seconds compute = per_token * as_double(totals.prompt_tokens + totals.decode_tokens);
    time += std::max(weight_read, compute);
  } else {
    time += weight_read + per_token * as_double(totals.prompt_tokens);
  }
  if (step.plan.empty()) return time;
  const Moved moved = moved_by(step.plan);
  if (moved.copied > Tokens(0)) {
    time += per_copy_launch + per_copied_token * as_double(moved.copied);
  }
  const Seconds link_busy = link_time(moved.in, moved.out);
  return form == StepForm::max ? std::max(time, link_busy) : time + link_busy;
}

}  // namespace kvstow
