// The CPU kernels: the contract of kernels/kernels.h in f32, vectorised and threaded. A call
// returns when its work is done. Results do not depend on the number of threads.
#pragma once

#include <cstddef>

#include "kernels/cpu/isa.h"
#include "kernels/cpu/thread_pool.h"
#include "kernels/kernels.h"

namespace kvstow::kernels::cpu {

void write_kv(const WriteKvArgs&, ThreadPool&);
template <class Map>  // AffineMap, BlockTableMap
void decode_attention(const DecodeAttentionArgs<Map>&, ThreadPool&);
template <class Map>
void prefill_attention(const PrefillAttentionArgs<Map>&, ThreadPool&);
void run_mem_plan(const MemPlanArgs&, ThreadPool&);

// LinearArgs::weight is the packed form: panels of 64 outputs, [ceil(out / 64)][in][64], zeros past
// `out`. A step over `in` then reads 256 consecutive bytes and feeds 64 sums without a shuffle.
[[nodiscard]] constexpr std::size_t packed_elements(int out, int in) {
  return static_cast<std::size_t>((out + kPanel - 1) / kPanel) * static_cast<std::size_t>(in) *
         kPanel;
}
void pack_weight(const float* weight /*[out, in]*/, int out, int in, float* packed);
void linear(const LinearArgs&, ThreadPool&, const Isa& = isa());

void norm(const NormArgs&, ThreadPool&);
void rope(const RopeArgs&, ThreadPool&);
void activation(const ActivationArgs&, ThreadPool&);
void embedding(const EmbeddingArgs&, ThreadPool&);

}  // namespace kvstow::kernels::cpu
