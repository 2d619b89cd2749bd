#include "core/exec/step_law.h"

#include <algorithm>

namespace kvstow {
namespace {

double as_double(Tokens tokens) {
  return static_cast<double>(tokens.count());
}

}  // namespace

Seconds StepLaw::link_time(Tokens in, Tokens out) const {
  const auto bytes_per_token = static_cast<double>(kv_bytes_per_token.count());
  const auto direction = [&](Tokens moved, double bytes_per_s, Seconds per_copy) -> Seconds {
    if (moved == Tokens(0)) return 0;
    const std::int64_t copies =
        ceil_div(moved.count(), block_tokens.count()) * link.copies_per_block;
    return as_double(moved) * bytes_per_token / bytes_per_s +
           static_cast<double>(copies) * per_copy;
  };
  return direction(in, link.bytes_per_s_in, link.per_copy_in) +
         direction(out, link.bytes_per_s_out, link.per_copy_out);
}

Seconds StepLaw::step_time(const Step& step) const {
  const StepTotals& totals = step.totals;
  Seconds time = fixed + per_group * static_cast<double>(totals.groups) +
                 per_sequence * static_cast<double>(totals.sequences) +
                 per_kv_token * as_double(totals.kv_read - totals.prefix_read) +
                 per_prefix_token * as_double(totals.prefix_read);
  if (form == StepForm::max) {
    const Seconds compute = per_token * as_double(totals.prompt_tokens + totals.decode_tokens);
    time += std::max(weight_read, compute);
  } else {
    time += weight_read + per_token * as_double(totals.prompt_tokens);
  }
  if (step.plan.empty()) return time;
  const MemPlan::Moved moved = step.plan.moved();
  time += per_copied_token * as_double(moved.copied);
  const Seconds link_busy = link_time(moved.in, moved.out);
  return form == StepForm::max ? std::max(time, link_busy) : time + link_busy;
}

}  // namespace kvstow
