#include "tests/cpu/verify_fixture.h"

namespace kvstow {

ExecutorFactory tiny_model(int threads) {
  const Transformer shape = tiny_shape(/*hidden=*/32, /*head_dim=*/8, /*ffn=*/48, /*vocab=*/96);
  return cpu_executors(std::make_shared<CpuTransformer>(shape, *random_weights(1)),
                       {.seed = 1, .sampling = kTinySampling, .threads = threads});
}

}  // namespace kvstow
