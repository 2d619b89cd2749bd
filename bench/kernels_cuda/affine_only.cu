// One block: a warp that loads tiles of 64 tokens of K and V, and four warps that each take 16
// tokens of a tile through S, softmax and O on their own (running maximum), merged at the end: in
// the block through shared memory, then over the blocks of a cluster that share a row's context.
#include <cooperative_groups.h>

#include <stdexcept>

#include "bench/kernels_cuda/affine_only.h"
#include "kernels/cuda/launch.h"
#include "kernels/cuda/ptx.cuh"

namespace kvstow::bench {
namespace {

namespace cg = cooperative_groups;
namespace cuda = kernels::cuda;
namespace ptx = kernels::cuda::ptx;
using kernels::AffineMap;
using kernels::DecodeAttentionArgs;

constexpr int kDim = 128;
constexpr int kHeads = 8;  // of a tile: the N of mma.m16n8k16
constexpr int kTile = 64;  // tokens
constexpr int kStages = 6;
constexpr int kWarps = 4;
constexpr int kThreads = (kWarps + 1) * 32;
constexpr int kPitch = 272;  // bytes of a row that bulk copies write: 17 vectors, no bank conflicts
constexpr int kStageBytes = kTile * kPitch;
constexpr int kTileBytes = kTile * kDim * 2;
constexpr float kNothing = -1e30f;  // a maximum over no tokens

// What one warp, then one block, has found out about 8 heads.
struct State {
  float max[kHeads];
  float sum[kHeads];
  float out[kHeads][kDim];
};

struct Shared {
  union {
    alignas(1024) unsigned char ring[kStages][(kStageBytes + 1023) / 1024 * 1024];
    State states[kWarps];
  };
  State merged;
  std::uint64_t full[kStages];
  std::uint64_t empty[kStages];
};

__device__ void expect_bytes(std::uint32_t bar, int bytes) {
  asm volatile("mbarrier.arrive.expect_tx.shared.b64 _, [%0], %1;" ::"r"(bar), "r"(bytes)
               : "memory");
}

__device__ void copy_box(std::uint32_t to, const CUtensorMap* boxes, int dim, int head, int slot,
                         int plane, std::uint32_t bar) {
  asm volatile(
      "cp.async.bulk.tensor.4d.shared::cluster.global.tile.mbarrier::complete_tx::bytes "
      "[%0], [%1, {%2, %3, %4, %5}], [%6];" ::"r"(to),
      "l"(boxes), "r"(dim), "r"(head), "r"(slot), "r"(plane), "r"(bar)
      : "memory");
}

__device__ void copy_bulk(std::uint32_t to, const void* from, int bytes, std::uint32_t bar) {
  asm volatile(
      "cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1], %2, [%3];" ::
          "r"(to),
      "l"(from), "r"(bytes), "r"(bar)
      : "memory");
}

// Where a token's 16-byte vector lies in a stage: in two boxes of 128-byte rows, swizzled, or in
// padded rows.
template <AffineCopies kCopies>
__device__ std::uint32_t place(std::uint32_t stage, int token, int vector) {
  if constexpr (kCopies == AffineCopies::tensor_boxes) {
    return stage + vector / 8 * (kTile * 128) + token * 128 + ((vector ^ token) % 8) * 16;
  } else {
    return stage + token * kPitch + vector * 16;
  }
}

template <AffineCopies kCopies>
__device__ void load_tiles(const DecodeAttentionArgs<AffineMap>& a, const CUtensorMap* boxes,
                           Shared& shared, int head, std::int64_t first, int tiles, int lane) {
  const std::int64_t slot_bytes = a.pool.layout.slot_stride() * 2;
  for (int i = 0; i < 2 * tiles; ++i) {
    const int stage = i % kStages;
    const int part = i % 2;
    const std::int64_t slot = first + i / 2 * kTile;
    const std::uint32_t full = ptx::shared_address(&shared.full[stage]);
    const std::uint32_t ring = ptx::shared_address(shared.ring[stage]);
    ptx::barrier_wait(ptx::shared_address(&shared.empty[stage]), i / kStages + 1 & 1);
    if (lane == 0) expect_bytes(full, kTileBytes);
    if constexpr (kCopies == AffineCopies::tensor_boxes) {
      if (lane > 1) continue;
      __syncwarp(3);
      copy_box(ring + lane * kTile * 128, boxes, lane * 64, head, static_cast<int>(slot),
               2 * a.layer + part, full);
    } else {
      __syncwarp();
      const auto* from = static_cast<const unsigned char*>(a.pool.data) +
                         a.pool.layout.part_offset(a.layer, part) * 2 + head * kDim * 2;
      for (int t = lane; t < kTile; t += 32) {
        copy_bulk(ring + t * kPitch, from + (slot + t) * slot_bytes, kDim * 2, full);
      }
    }
  }
}

// 16 tokens of each tile, by one warp.
template <AffineCopies kCopies>
__device__ void attend(const DecodeAttentionArgs<AffineMap>& a, Shared& shared, int row,
                       int first_head, int group, int tiles, int warp, int lane) {
  std::uint32_t q[kDim / 16][2] = {};
  if (lane / 4 < group) {
    const auto* from = static_cast<const __half*>(a.q) + row * a.q_stride +
                       (first_head + lane / 4) * kDim + lane % 4 * 2;
#pragma unroll
    for (int k = 0; k < kDim / 16; ++k) {
      q[k][0] = *reinterpret_cast<const std::uint32_t*>(from + k * 16);
      q[k][1] = *reinterpret_cast<const std::uint32_t*>(from + k * 16 + 8);
    }
  }
  const float scale = a.scale * 1.4426950408889634f;  // base 2
  float max[2] = {kNothing, kNothing};                // of heads lane % 4 * 2 and the next
  float sum[2] = {};
  float out[kDim / 16][4] = {};
  const int token = warp * 16;
  for (int tile = 0; tile < tiles; ++tile) {
    const auto stage_of = [&](int part) { return (2 * tile + part) % kStages; };
    const auto wait = [&](int part) {
      ptx::barrier_wait(ptx::shared_address(&shared.full[stage_of(part)]),
                        (2 * tile + part) / kStages & 1);
      return ptx::shared_address(shared.ring[stage_of(part)]);
    };
    const auto release = [&](int part) {
      __syncwarp();
      if (lane == 0) ptx::barrier_arrive(ptx::shared_address(&shared.empty[stage_of(part)]));
    };
    const std::uint32_t keys = wait(0);
    float s[4] = {};
#pragma unroll
    for (int k = 0; k < kDim / 16; ++k) {
      std::uint32_t key[4];
      ptx::load_matrix_x4(key, place<kCopies>(keys, token + lane % 16, 2 * k + lane / 16));
      ptx::mma_16816<__half>(s, key, q[k][0], q[k][1]);
    }
    release(0);
    float largest[2] = {fmaxf(s[0], s[2]) * scale, fmaxf(s[1], s[3]) * scale};
#pragma unroll
    for (int offset = 4; offset < 32; offset *= 2) {
#pragma unroll
      for (int h = 0; h < 2; ++h) {
        largest[h] = fmaxf(largest[h], __shfl_xor_sync(0xffffffffu, largest[h], offset));
      }
    }
    if (__any_sync(0xffffffffu, largest[0] > max[0] || largest[1] > max[1])) {
#pragma unroll
      for (int h = 0; h < 2; ++h) {
        const float now = fmaxf(max[h], largest[h]);
        const float factor = ptx::exp2_fast(max[h] - now);
        max[h] = now;
        sum[h] *= factor;
#pragma unroll
        for (int d = 0; d < kDim / 16; ++d) {
          out[d][h] *= factor;
          out[d][h + 2] *= factor;
        }
      }
    }
    float p[4];
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      p[i] = ptx::exp2_fast(s[i] * scale - max[i % 2]);
      sum[i % 2] += p[i];
    }
    const std::uint32_t p0 = ptx::transpose8x8(ptx::pack<__half>(p[0], p[1]));
    const std::uint32_t p1 = ptx::transpose8x8(ptx::pack<__half>(p[2], p[3]));
    const std::uint32_t values = wait(1);
#pragma unroll
    for (int d = 0; d < kDim / 16; ++d) {
      std::uint32_t value[4];
      ptx::load_matrix_x4_transposed(
          value, place<kCopies>(values, token + lane / 16 * 8 + lane % 8, 2 * d + lane / 8 % 2));
      ptx::mma_16816<__half>(out[d], value, p0, p1);
    }
    release(1);
  }
#pragma unroll
  for (int offset = 4; offset < 32; offset *= 2) {
#pragma unroll
    for (int h = 0; h < 2; ++h) sum[h] += __shfl_xor_sync(0xffffffffu, sum[h], offset);
  }
  ptx::named_barrier(1, kWarps * 32);  // the ring becomes the states
  State& state = shared.states[warp];
#pragma unroll
  for (int h = 0; h < 2; ++h) {
    const int head = lane % 4 * 2 + h;
    state.max[head] = max[h];
    state.sum[head] = sum[h];
#pragma unroll
    for (int d = 0; d < kDim / 16; ++d) {
      state.out[head][d * 16 + lane / 4] = out[d][h];
      state.out[head][d * 16 + lane / 4 + 8] = out[d][h + 2];
    }
  }
  ptx::named_barrier(1, kWarps * 32);
}

// One element of the merge of `count` states, and its head's maximum and sum.
template <class StateOf>
__device__ float merge(const StateOf& state_of, int count, int head, int dim, float& max,
                       float& sum) {
  max = kNothing;
  for (int i = 0; i < count; ++i) max = fmaxf(max, state_of(i).max[head]);
  sum = 0;
  float out = 0;
  for (int i = 0; i < count; ++i) {
    const State& state = state_of(i);
    const float factor = ptx::exp2_fast(state.max[head] - max);
    sum += factor * state.sum[head];
    out += factor * state.out[head][dim];
  }
  return out;
}

template <AffineCopies kCopies>
__global__ void __launch_bounds__(kThreads, 2)
    affine_only_kernel(const DecodeAttentionArgs<AffineMap> a,
                       const __grid_constant__ CUtensorMap boxes) {
  extern __shared__ unsigned char dynamic_shared[];
  auto& shared = *reinterpret_cast<Shared*>(
      dynamic_shared + (1024 - ptx::shared_address(dynamic_shared) % 1024) % 1024);
  const auto cluster = cg::this_cluster();
  const int rank = static_cast<int>(cluster.block_rank());
  const int splits = static_cast<int>(cluster.num_blocks());
  const int thread = static_cast<int>(threadIdx.x);
  const int kv_heads = a.pool.layout.kv_heads;
  const int group = a.heads / kv_heads;
  const int kv_head = static_cast<int>(blockIdx.y) % kv_heads;
  const int row = static_cast<int>(blockIdx.y) / kv_heads;
  ptx::let_next_kernel_start();
  if (thread == 0) {
    for (int i = 0; i < kStages; ++i) {
      ptx::barrier_init(ptx::shared_address(&shared.full[i]), 1);
      ptx::barrier_init(ptx::shared_address(&shared.empty[i]), kWarps);
    }
    ptx::barrier_init_fence();
  }
  __syncthreads();
  const int all = a.length[row] / kTile;
  const int begin = all * rank / splits;
  const int tiles = all * (rank + 1) / splits - begin;
  if (thread >= kWarps * 32) {
    load_tiles<kCopies>(a, &boxes, shared, kv_head, a.map.first[a.map_row[row]] + begin * kTile,
                        tiles, thread % 32);
    ptx::wait_for_earlier_kernels();
  } else {
    ptx::wait_for_earlier_kernels();
    attend<kCopies>(a, shared, row, kv_head * group, group, tiles, thread / 32, thread % 32);
    for (int i = thread; i < group * kDim; i += kWarps * 32) {
      const int head = i / kDim;
      float max = 0;
      float sum = 0;
      const float out = merge([&](int w) -> const State& { return shared.states[w]; }, kWarps, head,
                              i % kDim, max, sum);
      shared.merged.out[head][i % kDim] = out;
      if (i % kDim == 0) {
        shared.merged.max[head] = max;
        shared.merged.sum[head] = sum;
      }
    }
  }
  cluster.sync();
  for (int i = rank * kThreads + thread; i < group * kDim; i += splits * kThreads) {
    const int head = i / kDim;
    float max = 0;
    float sum = 0;
    const float out =
        merge([&](int r) -> const State& { return *cluster.map_shared_rank(&shared.merged, r); },
              splits, head, i % kDim, max, sum);
    static_cast<__half*>(a.out)[row * a.out_stride + (kv_head * group + head) * kDim + i % kDim] =
        __float2half_rn(out / sum);
  }
  cluster.sync();  // nobody leaves while its state is read
}

}  // namespace

AffineOnlyDecode::AffineOnlyDecode(const kernels::KvPool& pool, AffineCopies copies, int splits)
    : copies_(copies), splits_(splits) {
  const kernels::KvLayout& layout = pool.layout;
  void* found = nullptr;
  cudaDriverEntryPointQueryResult result{};
  KVSTOW_CUDA(cudaGetDriverEntryPointByVersion("cuTensorMapEncodeTiled", &found, 12000,
                                               cudaEnableDefault, &result));
  if (!found) throw std::runtime_error("the driver has no tensor maps");
  const auto slots = static_cast<cuuint64_t>(layout.slots);
  const auto heads = static_cast<cuuint64_t>(layout.kv_heads);
  const cuuint64_t extent[] = {kDim, heads, slots, static_cast<cuuint64_t>(2 * layout.layers)};
  const cuuint64_t stride[] = {kDim * 2, heads * kDim * 2, slots * heads * kDim * 2};  // bytes
  const cuuint32_t box[] = {64, 1, kTile, 1};
  const cuuint32_t step[] = {1, 1, 1, 1};
  const CUresult status = reinterpret_cast<decltype(&cuTensorMapEncodeTiled)>(found)(
      &boxes_, CU_TENSOR_MAP_DATA_TYPE_FLOAT16, 4, pool.data, extent, stride, box, step,
      CU_TENSOR_MAP_INTERLEAVE_NONE, CU_TENSOR_MAP_SWIZZLE_128B, CU_TENSOR_MAP_L2_PROMOTION_L2_256B,
      CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE);
  if (status != CUDA_SUCCESS) throw std::runtime_error("no tensor map for this pool");
}

void AffineOnlyDecode::launch(const DecodeAttentionArgs<AffineMap>& a, cudaStream_t stream) const {
  const auto kernel = copies_ == AffineCopies::tensor_boxes
                          ? affine_only_kernel<AffineCopies::tensor_boxes>
                          : affine_only_kernel<AffineCopies::bulk>;
  constexpr int kBytes = sizeof(Shared) + 1024;
  static_assert(2 * (kBytes + 1024) <= 228 * 1024);
  KVSTOW_CUDA(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, kBytes));
  cuda::launch("affine only", kernel,
               {.grid = dim3(static_cast<unsigned>(splits_),
                             static_cast<unsigned>(a.rows * a.pool.layout.kv_heads)),
                .block = dim3(kThreads),
                .shared_bytes = kBytes,
                .cluster = splits_,
                .dependent = true},
               stream, a, boxes_);
}

}  // namespace kvstow::bench
