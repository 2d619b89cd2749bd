#include "tests/cpu/verify_fixture.h"

namespace kvstow {

ExecutorFactory tiny_model(int threads) {
  Transformer shape;
  shape.family = ModelFamily::qwen3;
  shape.layers = 2;
  shape.hidden = 32;
  shape.heads = 4;
  shape.kv_heads = 2;
  shape.head_dim = 8;
  shape.ffn = 48;
  shape.vocab = 96;
  shape.max_positions = 128;
  shape.qk_norm = true;
  return cpu_executors(std::make_shared<CpuTransformer>(shape, *random_weights(1)),
                       {.seed = 1,
                        .sampling = {.temperature = 0.8, .top_k = 40, .top_p = 0.95},
                        .threads = threads});
}

}  // namespace kvstow
