// Slow, obvious versions of every kernel, in double inside: what the fast ones are tested against.
// Written from the formulas, sharing no code with kernels/cpu.
#pragma once

#include "kernels/kernels.h"

namespace kvstow::kernels::reference {

void write_kv(const WriteKvArgs&);
template <class Map>  // AffineMap, BlockTableMap
void decode_attention(const DecodeAttentionArgs<Map>&);
template <class Map>
void prefill_attention(const PrefillAttentionArgs<Map>&);
void run_mem_plan(const MemPlanArgs&);
void linear(const LinearArgs&);  // weight in [out, in]
void norm(const NormArgs&);
void rope(const RopeArgs&);
void activation(const ActivationArgs&);
void embedding(const EmbeddingArgs&);

}  // namespace kvstow::kernels::reference
