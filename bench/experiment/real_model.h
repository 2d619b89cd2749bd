// The model behind executors that compute: from a model's YAML file to a transformer with weights.
#pragma once

#include <memory>

#include "bench/experiment/point.h"
#include "core/exec/cpu/cpu_transformer.h"
#include "kernels/kv_cache.h"

namespace kvstow {

// The description of a model whose file names its family. InputError otherwise.
[[nodiscard]] Transformer transformer_of(const ModelConfig&);

// InputError, which begins with `where`, if the GPU's kernels have no body for the shape.
void check_gpu_shape(const Transformer&, kernels::DType, const std::string& where);

// InputError where the point's executor, cpu or cuda, cannot compute it: no family, a dtype that it
// does not have, or (cpu) weights and pools that the machine's memory cannot hold.
void check_computable(const ResolvedPoint&);

// Where the model's weights come from: its checkpoint, or seeded random ones (seed 1: the model is
// the same in every run; a run's own seed draws prompts and tokens).
[[nodiscard]] std::unique_ptr<WeightSource> weights_of(const ModelConfig&);

// Loaded once and shared while anybody uses it. Throws as check_computable does, or where the
// checkpoint is bad. Thread-safe.
[[nodiscard]] std::shared_ptr<const CpuTransformer> cpu_model(const ResolvedPoint&);

}  // namespace kvstow
