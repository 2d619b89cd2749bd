// The model behind executors that compute: from a model's YAML file to a transformer with weights.
#pragma once

#include <memory>

#include "bench/experiment/point.h"
#include "core/exec/cpu/cpu_transformer.h"

namespace kvstow {

// The description of a model whose file names its family. InputError otherwise.
[[nodiscard]] Transformer transformer_of(const ModelConfig&);

// InputError where executor cpu cannot compute this point: no family, K and V that are not f32, or
// weights and pools that the machine's memory cannot hold.
void check_computable(const ResolvedPoint&);

// Weights from the model's checkpoint, or seeded random ones (seed 1: the model is the same in
// every run; a run's own seed draws prompts and tokens). Loaded once and shared while anybody uses
// them. Throws as check_computable does, or where the checkpoint is bad. Thread-safe.
[[nodiscard]] std::shared_ptr<const CpuTransformer> cpu_model(const ResolvedPoint&);

}  // namespace kvstow
