// A model that computes the logits of rows, on either executor's transformer.
#pragma once

#include <cstdint>
#include <memory>
#include <span>

#include "core/exec/model/transformer.h"
#include "core/exec/model/weights.h"
#include "core/exec/rows/forward_rows.h"
#include "kernels/kv_cache.h"

namespace kvstow {

class LogitsModel {
 public:
  virtual ~LogitsModel() = default;
  // [rows.logits.size(), vocab] in f32, valid until the next call. K and V stay in a pool.
  virtual std::span<const float> forward(const ForwardRows&) = 0;
};

// What one call may ask for, and the pool.
struct LogitsRoom {
  int rows;
  int sequences;
  std::int64_t table_stride;
  std::int64_t slots;
};

[[nodiscard]] std::unique_ptr<LogitsModel> cpu_logits_model(const Transformer&, const WeightSource&,
                                                            const LogitsRoom&);

// InputError where this build has no executor cuda, or there is no device or too little memory.
[[nodiscard]] std::unique_ptr<LogitsModel> cuda_logits_model(const Transformer&,
                                                             const WeightSource&, kernels::DType,
                                                             const LogitsRoom&);

}  // namespace kvstow
