// Carries memory plans out on a GPU: copies on the step's own stream, swaps on a stream beside it.
//
// The edges that keep this right, each of which can be dropped to see that verification notices:
//   a swap begins when the work that was submitted before it has ended (it reads what that wrote);
//   slots that a swap-out still reads are in quarantine: whoever writes them waits for it;
//   a sequence runs when its swap-in has ended.
// Slots freed by finished sequences need none of this: their readers and their next writers are on
// one stream.
#pragma once

#include <cuda_runtime_api.h>

#include <span>
#include <vector>

#include "core/exec/cuda/memory.h"
#include "core/exec/rows/computing_executor.h"
#include "core/kv/mem_plan.h"
#include "kernels/cuda/cache_ops.h"

namespace kvstow {

// What orders two pieces of work that would otherwise race. A dropped edge is not waited for, and
// the work it should have waited for is held up, so that the race is lost every time.
enum class Edge : std::uint8_t {
  none,
  rows_before_layers,     // the step's rows are on the device when its layers read them
  layers_before_swap,     // what earlier steps wrote is there when a swap reads it
  swap_out_before_reuse,  // quarantine: a slot is read by its swap-out before it is written again
  swap_in_before_layers,  // what comes back is there when the layers read it
};

// Holds a stream up for long enough that whoever should wait for it and does not is too early.
void hold_up(cudaStream_t);

class PlanRunner {
 public:
  // The pools that the layouts describe, exactly. Throws InputError where memory is short. With
  // `poison`, slots hold NaN before they are written and after they are freed.
  PlanRunner(const kernels::KvLayout& device, const kernels::KvLayout& host, bool poison,
             Edge dropped);
  ~PlanRunner();

  [[nodiscard]] const kernels::KvPool& pool() const { return pool_; }

  // What `compute` does next sees the plan carried out.
  void run(const MemPlan&, cudaStream_t compute);

  // To be called before `compute` writes these slots (-1: none).
  void before_writing(std::span<const std::int64_t> slots, cudaStream_t compute);

  // Waits until the device has nothing to do.
  void read(Tier, PoolImage&) const;

 private:
  struct Extent {
    std::int64_t first;
    std::int64_t end;
    [[nodiscard]] bool meets(const Extent& other) const {
      return first < other.end && other.first < end;
    }
  };
  using Extents = std::vector<Extent>;

  void run_copies(std::span<const MemOp>, cudaStream_t compute);
  void run_swaps(std::span<const MemOp>, cudaStream_t compute);
  void poison_freed(const MemOp&, cudaStream_t compute);
  void wait_for_swaps(cudaStream_t compute);
  void end_quarantine(cudaStream_t compute);  // because the slots are about to be written
  [[nodiscard]] static Extent extent(Slot first, Tokens length);
  [[nodiscard]] static bool meets(const Extents&, const Extent&);

  bool poison_;
  Edge dropped_;
  DeviceBuffer<std::uint16_t> pool_data_, staging_data_;
  PinnedBuffer<std::uint16_t> host_data_;
  kernels::KvPool pool_{};
  kernels::cuda::HostPool host_{};
  kernels::cuda::Staging staging_{};
  Stream swaps_;
  Event compute_at_{cudaEventDisableTiming}, swaps_at_{cudaEventDisableTiming};
  Extents quarantine_;  // slots that swaps under way still read
  Extents arriving_;    // slots that they write
};

}  // namespace kvstow
