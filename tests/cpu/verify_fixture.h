// A small trace of every decoding, a tiny model, and the systems that serve it from a pool so small
// that they preempt constantly.
#pragma once

#include <string>
#include <vector>

#include "baselines/length_estimates.h"
#include "bench/verify/verify.h"
#include "core/rng.h"

namespace kvstow {

// Prompts of 5-40 tokens, outputs of 1-24; the third of each is sampled in parallel or by beam
// search, the fifth starts with a shared prefix of 21 tokens.
inline std::vector<Request> mixed_trace(int requests, bool groups = true) {
  RandomStream random(3, "verify trace");
  std::vector<Request> trace;
  for (int i = 0; i < requests; ++i) {
    Request r;
    r.id = RequestId(static_cast<std::uint32_t>(i));
    r.arrival = i / 3 * 2.0;
    r.prompt = Tokens(5 + random.below(36));
    r.output = Tokens(1 + random.below(24));
    if (groups && i % 6 == 2) r.decoding = {DecodingKind::parallel, 3};
    if (groups && i % 6 == 5) r.decoding = {DecodingKind::beam, 3};
    if (i % 5 == 4) {
      r.prefix = PrefixId(0);
      r.prefix_tokens = Tokens(21);
      r.prompt += r.prefix_tokens;
    }
    trace.push_back(r);
  }
  return trace;
}

// A tiny Qwen3. What the kernels of a device can do bounds head_dim from below.
inline Transformer tiny_shape(int hidden, int head_dim, int ffn, int vocab) {
  Transformer shape;
  shape.family = ModelFamily::qwen3;
  shape.layers = 2;
  shape.hidden = hidden;
  shape.heads = 4;
  shape.kv_heads = 2;
  shape.head_dim = head_dim;
  shape.ffn = ffn;
  shape.vocab = vocab;
  shape.max_positions = 128;
  shape.qk_norm = true;
  return shape;
}

// Executors of a tiny model; there is one for each device (tests/cpu, tests/cuda).
ExecutorFactory tiny_model(int threads = 1);
inline constexpr SamplingConfig kTinySampling{.temperature = 0.8, .top_k = 40, .top_p = 0.95};

// How far logits may be apart where tokens are forced: 16 unit roundoffs of bf16.
inline constexpr double kTinyTolerance = 0.0625;

// Below the truth, so that allocators which reserve have to grow past it.
inline Tokens estimate_low(const Request& request, Tokens) {
  return Tokens(request.output / Tokens(2));
}

inline VerifyArm iteration_arm(std::string name, std::string allocator, int block_tokens,
                               Preemption preemption) {
  const Tokens block(block_tokens);
  return {.name = std::move(name),
          .allocator = std::move(allocator),
          .pool = {.device_slots = block * (400 / block_tokens),
                   .host_slots = block * (1600 / block_tokens),
                   .block_tokens = block,
                   .max_sequence = Tokens(128)},
          .scheduler = IterationConfig{.max_batched_tokens = Tokens(200),
                                       .max_sequences = 12,
                                       .max_model_len = Tokens(128),
                                       .estimate = estimate_oracle,
                                       .preemption = preemption,
                                       .share_prompt = true,
                                       .block_tokens = block}};
}

}  // namespace kvstow
