// The body of decode attention. One block: a scheduler warp, four producer warps that keep a ring
// of K and V stages full with cp.async, four warps that turn K into probabilities and four that
// multiply them with V. A chunk is 128 tokens, four stages: K of its first and second 64 tokens,
// then V likewise.
//
//   S = K Q^T     tokens are the M of mma.m16n8k16, query heads of the tile its N (8 or 16)
//   softmax       maximum over the chunk through shared memory, P to shared memory
//   O^T = V^T P   dimensions are M, tokens K: the accumulators of an item live in few registers,
//                 and folding a chunk in needs no exchange
// Products and sums whose result is kept are written with explicit rounding where the compiler
// could contract them one way in one instantiation and another way in the next: the bits must not
// depend on the map.
#pragma once

#include "kernels/cuda/decode_attention.h"
#include "kernels/cuda/decode_producer.cuh"
#include "kernels/cuda/decode_scores.cuh"
#include "kernels/cuda/decode_values.cuh"
#include "kernels/cuda/launch.h"

namespace kvstow::kernels::cuda {

template <class T, int kDim, int kN, class Map>
__global__ void __launch_bounds__(DecodeTile<kDim, kN>::kThreads,
                                  DecodeTile<kDim, kN>::kTwoBlocks ? 2 : 1)
    decode_kernel(const __grid_constant__ DecodeParams params, const __grid_constant__ Map map) {
  using Tile = DecodeTile<kDim, kN>;
  extern __shared__ __align__(128) unsigned char dynamic_shared[];
  auto& shared = *reinterpret_cast<typename Tile::Shared*>(dynamic_shared);
  const int thread = static_cast<int>(threadIdx.x);
  if (thread == 0) {
    for (int i = 0; i < Tile::kStages; ++i) {
      ptx::barrier_init(ptx::shared_address(&shared.full[i]), Tile::kProducers + 1);
      ptx::barrier_init(ptx::shared_address(&shared.empty[i]), Tile::kGroupWarps);
    }
    for (int i = 0; i < Tile::kWorkSlots; ++i) {
      ptx::barrier_init(ptx::shared_address(&shared.work_full[i]), 1);
      ptx::barrier_init(ptx::shared_address(&shared.work_empty[i]), Tile::kGroupWarps);
    }
    for (int i = 0; i < 2; ++i) {
      ptx::barrier_init(ptx::shared_address(&shared.p_full[i]), Tile::kGroupWarps);
      ptx::barrier_init(ptx::shared_address(&shared.p_empty[i]), Tile::kGroupWarps);
    }
    ptx::barrier_init_fence();
  }
  ptx::let_next_kernel_start();
  __syncthreads();
  const PlanEntry* run = params.plan + blockIdx.x;
  const bool works = params.plan[gridDim.x + 1].row > 0 || !run[0].same_chunk(run[1]);
  if (thread < Tile::kGroup) {
    if (works) ScoreGroup<T, kDim, kN>{params, shared, thread / 32, thread % 32}.run();
  } else if (thread < Tile::kConsumers) {
    ptx::more_registers<Tile::kValueRegisters>();
    if (works) ValueGroup<T, kDim, kN>(params, shared, thread - Tile::kGroup).run();
  } else if (thread < Tile::kConsumers + Tile::kProducers) {
    ptx::fewer_registers<Tile::kProducerRegisters>();
    if (works) Producer<T, kDim, kN>(params, shared, thread - Tile::kConsumers).run();
  } else {
    Scheduler<kDim, kN, Map>{params, map, shared, thread % 32}.run();
  }
  ptx::wait_for_earlier_kernels();  // also in blocks without work: completion must be transitive
}

template <class T, int kDim, int kN, class Map>
void launch_decode_body(const DecodeParams& params, const Map& map, int blocks, cudaStream_t stream,
                        Dependent dependent) {
  using Tile = DecodeTile<kDim, kN>;
  constexpr int kShared = sizeof(typename Tile::Shared);
  static_assert((Tile::kTwoBlocks ? 2 : 1) * (kShared + 1024) <= 228 * 1024);
  const auto kernel = decode_kernel<T, kDim, kN, Map>;
  KVSTOW_CUDA(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, kShared));
  launch("decode attention", kernel,
         {.grid = dim3(blocks),
          .block = dim3(Tile::kThreads),
          .shared_bytes = kShared,
          .dependent = dependent == Dependent::yes},
         stream, params, map);
}

// The dispatch table: one body for each dtype (a source file each), head_dim, tile width and map.
template <class T, class Map>
void launch_decode(const DecodeParams& params, const Map& map, int head_dim, int blocks,
                   cudaStream_t stream, Dependent dependent);

}  // namespace kvstow::kernels::cuda
