// Executors of the tiny model on the GPU; tests/cpu/verify_fixture.h declares the usual one.
#pragma once

#include "bench/verify/verify.h"
#include "core/exec/cuda/plan_runner.h"
#include "core/exec/half_batches.h"

namespace kvstow {

[[nodiscard]] ExecutorFactory tiny_model_without(Edge, HalfBatches = HalfBatches::never);

}  // namespace kvstow
