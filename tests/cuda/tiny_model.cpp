// The GPU's side of tests/cpu's identity and planted-fault tests: the deterministic mode, poisoned
// slots.
#include "tests/cuda/tiny_model.h"

#include <gtest/gtest.h>

#include "bench/experiment/cuda_point.h"
#include "core/exec/cuda/cuda_executor.h"
#include "tests/cpu/verify_fixture.h"
#include "tests/cuda/device_case.h"

namespace kvstow {
namespace {

class NeedsDevice : public ::testing::Environment {
 public:
  void SetUp() override {
    if (!kernels::cuda::testing::have_device()) GTEST_SKIP() << "skipped: no CUDA device";
  }
};
const auto* const kNeedsDevice = ::testing::AddGlobalTestEnvironment(new NeedsDevice);

}  // namespace

ExecutorFactory tiny_model(int) {
  return tiny_model_without(Edge::none);
}

ExecutorFactory tiny_model_without(Edge edge, HalfBatches half_batches) {
  constexpr int kWidest = 4;
  static const auto model = std::make_shared<CudaTransformer>(
      tiny_shape(/*hidden=*/128, /*head_dim=*/64, /*ffn=*/256, /*vocab=*/512), kernels::DType::bf16,
      *random_weights(1), LinearMode::deterministic);
  return
      [edge, half_batches](const VerifyArm& arm, const KvAllocator& allocator, Teacher* teacher) {
        const DeviceNeeds needs = device_needs(arm.allocator, arm.pool, arm.scheduler, kWidest);
        return std::make_unique<CudaExecutor>(
            model, allocator,
            CudaExecutorConfig{.seed = 1,
                               .sampling = kTinySampling,
                               .block_tokens = needs.block_tokens,
                               .max_step_rows = needs.max_step_rows,
                               .max_sequences = needs.max_sequences,
                               .max_graph_rows = needs.max_sequences > 4 ? needs.max_sequences : 0,
                               .half_batches = half_batches,
                               .poison = true,
                               .teacher = teacher,
                               .dropped_edge = edge});
      };
}

}  // namespace kvstow
