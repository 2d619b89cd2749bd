#include "bench/verify/pool_witness.h"

#include <algorithm>
#include <string>

#include "core/check.h"

namespace kvstow {

PoolWitness::PoolWitness(ComputingExecutor& inner, const KvAllocator& allocator)
    : inner_(inner), allocator_(allocator) {
  for (const Tier tier : {Tier::device, Tier::host}) {
    inner_.read_pool(tier, pool(tier).expected);
    pool(tier).written.resize(static_cast<std::size_t>(allocator.stats(tier).capacity.count()));
  }
}

void PoolWitness::submit(const Step& step) {
  inner_.submit(step);  // which checks that every view lies in the pool
  for (const MemOp& op : step.plan.ops()) carry_out(op);
  expect_rows(step);
}

void PoolWitness::carry_out(const MemOp& op) {
  const bool from_host = op.kind == MemOpKind::swap_in || op.kind == MemOpKind::free_host;
  Pool& from = pool(from_host ? Tier::host : Tier::device);
  Pool& to = pool(op.kind == MemOpKind::swap_out ? Tier::host : Tier::device);
  const auto length = static_cast<std::size_t>(op.length.count());
  const auto src = static_cast<std::size_t>(op.src.index());
  if (is_free(op.kind)) {
    std::fill_n(from.written.begin() + op.src.index(), length, false);
    return;
  }
  const auto dst = static_cast<std::size_t>(op.dst.index());
  for (std::size_t i = 0; i < length; ++i) {
    std::ranges::copy(from.expected.slot(src + i), to.expected.slot(dst + i).begin());
    to.written[dst + i] = from.written[src + i];
  }
}

void PoolWitness::expect_rows(const Step& step) {
  own_rows_.clear();
  for (const StepGroup& group : step.groups) {
    for (const SeqId seq : group.sequences) {
      const KvView view = allocator_.view(seq);
      for (Tokens p = group.first; p < group.first + group.count; ++p) {
        own_rows_.push_back(view.slot(p));
      }
    }
  }
}

StepResult PoolWitness::wait() {
  const StepResult result = inner_.wait();
  Pool& device = pool(Tier::device);
  for (const Slot slot : own_rows_) device.written[static_cast<std::size_t>(slot.index())] = false;
  compare(Tier::device);
  for (const Slot slot : own_rows_) device.written[static_cast<std::size_t>(slot.index())] = true;
  compare(Tier::host);
  ++steps_;
  return result;
}

void PoolWitness::compare(Tier tier) {
  Pool& known = pool(tier);
  inner_.read_pool(tier, found_);
  for (std::size_t slot = 0; slot < known.written.size(); ++slot) {
    if (!known.written[slot] || std::ranges::equal(found_.slot(slot), known.expected.slot(slot))) {
      continue;
    }
    throw InvariantError("step " + std::to_string(steps_) + ": slot " + std::to_string(slot) +
                         (tier == Tier::device ? " of the device" : " of the host") +
                         " does not hold what the memory plans leave there");
  }
  std::swap(known.expected, found_);
}

}  // namespace kvstow
