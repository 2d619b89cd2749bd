// The body of prefill attention for Hopper at head_dim 64 and 128: wgmma, one persistent block a
// multiprocessor, a producer warpgroup (prefill_wgmma_loader.cuh) and two consumers of 64 query
// rows of one head each.
//
//            128 tokens at an absolute position
//           +----------------+
//   64 rows |  S = Q K^T     |  S and P in registers, the output too; while tensor cores do
//           +----------------+  S of the next tile and P V of this one for one warpgroup, the other
//   64 rows |                |  takes the exponentials of its own
//           +----------------+
//
// The consumers know nothing of the map: a row's bits depend on its own sequence alone.
#pragma once

#include <atomic>

#include "kernels/cuda/decode_attention.h"
#include "kernels/cuda/elements.cuh"
#include "kernels/cuda/launch.h"
#include "kernels/cuda/prefill_attention.h"
#include "kernels/cuda/prefill_wgmma_loader.cuh"
#include "kernels/cuda/tensor_map.h"

namespace kvstow::kernels::cuda {

// kBoxes: K and V come by the copy engine, which wgmma sees; else by generic copies.
template <class T, int kDim, bool kBoxes>
class WgmmaConsumer {
 public:
  using Tile = WgmmaTile<kDim>;
  using Shared = typename Tile::Shared;
  static constexpr int kScores = Tile::kTokens / 2;  // registers of S
  static constexpr int kOut = kDim / 2;

  __device__ WgmmaConsumer(Shared& s, void* out, std::int64_t out_stride, float scale)
      : s_(s),
        out_rows_(static_cast<T*>(out)),
        out_stride_(out_stride),
        scale_log2_(scale * 1.4426950408889634f),
        group_(uniform(static_cast<int>(threadIdx.x) / 128 - 1)),
        thread_(static_cast<int>(threadIdx.x) % 128),
        lane_(thread_ % 32) {}

  __device__ void run() {
    if (group_ == 1) pass_turn();
    for (int item = 0;; ++item) {
      const int buffer = item % 2;
      ptx::barrier_wait(ptx::shared_address(&s_.q_full[buffer]), item / 2 % 2);
      const QueryTile tile = s_.tile[buffer];
      if (uniform(tile.rows) < 0) break;
      attend(tile, buffer);
      write(tile, s_.head[buffer], buffer);
      wgmma::fence_shared();  // before the copy engine writes there
      release(&s_.q_empty[buffer]);
    }
    if (group_ == 0) take_turn();
  }

 private:
  // The same in all lanes, and known to be.
  __device__ static int uniform(int x) { return __shfl_sync(0xffffffffu, x, 0); }

  __device__ void attend(const QueryTile& tile, int buffer) {
    const int first = uniform(tile.position) + group_ * 64;
    const int steps = uniform(steps_of(tile, Tile::kTokens));
    const int own = ::min(steps, (first + 63) / Tile::kTokens + 1);
    maximum_[0] = maximum_[1] = -INFINITY;
    sum_[0] = sum_[1] = 0;
#pragma unroll
    for (int i = 0; i < kOut; ++i) o[i] = 0;

    first_step(first, buffer);
    for (int t = 1; t < own; ++t) step(t, first, buffer);
    await(s_.v_full, use_);
    const int end = tile.kv_length - (own - 1) * Tile::kTokens;
    if (end < Tile::kTokens) clear_values(use_, end);
    wgmma::pin(p);
    wgmma::pin(o);
    values(use_);
    wgmma::wait<0>();
    wgmma::pin(o);
    release(s_.v_empty, use_);
    ++use_;
    for (int t = own; t < steps; ++t) {  // the other warpgroup's alone
      await(s_.k_full, use_);
      take_turn();
      pass_turn();
      release(s_.k_empty, use_);
      await(s_.v_full, use_);
      release(s_.v_empty, use_);
      ++use_;
    }
  }

  // Scores and probabilities of tile 0.
  __device__ void first_step(int first, int buffer) {
    float s[kScores];
    await(s_.k_full, use_);
    take_turn();
    scores(s, buffer, use_);
    pass_turn();
    wgmma::wait<0>();
    wgmma::pin(s);
    release(s_.k_empty, use_);
    float factor[2];
    if (first < Tile::kTokens - 1) mask(s, 0, first);
    softmax(s, factor);
    probabilities(s);
  }

  // Scores and probabilities of tile t, the products of tile t - 1 with V.
  __device__ void step(int t, int first, int buffer) {
    float s[kScores];
    await(s_.k_full, use_ + 1);
    take_turn();
    scores(s, buffer, use_ + 1);
    await(s_.v_full, use_);
    values(use_);
    pass_turn();
    wgmma::wait<1>();
    wgmma::pin(s);
    release(s_.k_empty, use_ + 1);
    float factor[2];
    if ((t + 1) * Tile::kTokens - 1 > first) mask(s, t * Tile::kTokens, first);
    softmax(s, factor);
    wgmma::wait<0>();
    wgmma::pin(o);
    release(s_.v_empty, use_);
#pragma unroll
    for (int i = 0; i < kOut; ++i) o[i] *= factor[i / 2 % 2];
    probabilities(s);
    ++use_;
  }

  // --- Barriers ---------------------------------------------------------------------------------

  __device__ static void await(std::uint64_t (&full)[Tile::kStages], int use) {
    ptx::barrier_wait(ptx::shared_address(&full[use % Tile::kStages]), use / Tile::kStages % 2);
    if constexpr (!kBoxes) wgmma::fence_shared();
  }
  __device__ void release(std::uint64_t* empty) const {
    if (thread_ == 0) ptx::barrier_arrive(ptx::shared_address(empty));
  }
  __device__ void release(std::uint64_t (&empty)[Tile::kStages], int use) const {
    release(&empty[use % Tile::kStages]);
  }
  // The warpgroups issue their products in turn, so that one's run beside the other's exponentials.
  __device__ void take_turn() const {
    ptx::named_barrier(1 + group_, 256);
  }
  __device__ void pass_turn() const {
    ptx::named_barrier_arrive(2 - group_, 256);
  }

  // --- One tile ---------------------------------------------------------------------------------

  __device__ void scores(float (&s)[kScores], int buffer, int use) {
    const std::uint64_t q = wgmma::describe(ptx::shared_address(s_.q[buffer]) + group_ * 64 * 128);
    const std::uint64_t k = wgmma::describe(ptx::shared_address(s_.k[use % Tile::kStages]));
    wgmma::pin(p);
    wgmma::pin(o);
    wgmma::fence();
#pragma unroll
    for (int i = 0; i < kDim / 16; ++i) {
      const int panel = i / 4;
      wgmma::product<T, Tile::kTokens>(s, q + (panel * Tile::kQueryPanel + i % 4 * 32) / 16,
                                       k + (panel * Tile::kPanel + i % 4 * 32) / 16, i > 0);
    }
    wgmma::commit();
  }

  __device__ void values(int use) {
    wgmma::fence();
    const std::uint64_t v =
        wgmma::describe_transposed(ptx::shared_address(s_.v[use % Tile::kStages]), Tile::kPanel);
#pragma unroll
    for (int i = 0; i < Tile::kTokens / 16; ++i) {
      wgmma::product<T>(o, p[4 * i], p[4 * i + 1], p[4 * i + 2], p[4 * i + 3], v + i * 2048 / 16,
                        true);
    }
    wgmma::commit();
  }

  // Rows of V past the end of the sequence hold anything, and 0 * NaN is NaN.
  __device__ void clear_values(int use, int end) {
    unsigned char* v = s_.v[use % Tile::kStages];
    for (int i = end * Tile::kVectors + thread_; i < Tile::kTokens * Tile::kVectors; i += 128) {
      const int vector = i % Tile::kVectors;
      *reinterpret_cast<uint4*>(v + vector / 8 * Tile::kPanel +
                                wgmma::swizzled(i / Tile::kVectors, vector % 8)) = {0, 0, 0, 0};
    }
    wgmma::fence_shared();
    ptx::named_barrier(3 + group_, 128);
  }

  // Hides what lies after a row's own position.
  __device__ void mask(float (&s)[kScores], int token, int first) {
    const int row = first + thread_ / 32 * 16 + lane_ / 4 - token - lane_ % 4 * 2;
#pragma unroll
    for (int i = 0; i < kScores; ++i) {
      if (i / 4 * 8 + i % 2 > row + i / 2 % 2 * 8) s[i] = -INFINITY;
    }
  }

  // Scores to exponentials; factor: what the output so far must be scaled with.
  __device__ void softmax(float (&s)[kScores], float (&factor)[2]) {
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      float largest = maximum_[half];
#pragma unroll
      for (int i = 2 * half; i < kScores; i += 4) {
        largest = fmaxf(largest, fmaxf(s[i], s[i + 1]));
      }
      largest = fmaxf(largest, __shfl_xor_sync(0xffffffffu, largest, 1));
      largest = fmaxf(largest, __shfl_xor_sync(0xffffffffu, largest, 2));
      factor[half] = ptx::exp2_fast(__fmul_rn(__fsub_rn(maximum_[half], largest), scale_log2_));
      maximum_[half] = largest;
      const float shift = __fmul_rn(largest, scale_log2_);
      float sum = 0;
#pragma unroll
      for (int i = 2 * half; i < kScores; i += 4) {
        s[i] = ptx::exp2_fast(__fmaf_rn(s[i], scale_log2_, -shift));
        s[i + 1] = ptx::exp2_fast(__fmaf_rn(s[i + 1], scale_log2_, -shift));
        sum += s[i] + s[i + 1];
      }
      sum_[half] = __fmaf_rn(sum_[half], factor[half], sum);
    }
  }

  __device__ void probabilities(const float (&s)[kScores]) {
#pragma unroll
    for (int i = 0; i < kScores / 2; ++i) p[i] = ptx::pack<T>(s[2 * i], s[2 * i + 1]);
  }

  // --- The result -------------------------------------------------------------------------------

  // Through shared memory (each warp where its own queries were), so that a row leaves in vectors.
  __device__ void write(const QueryTile& tile, int head, int buffer) {
    const int warp_row = group_ * 64 + thread_ / 32 * 16;
    unsigned char* q = s_.q[buffer];
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      float sum = sum_[half];
      sum += __shfl_xor_sync(0xffffffffu, sum, 1);
      sum += __shfl_xor_sync(0xffffffffu, sum, 2);
      const float inverse = 1 / sum;
      const int row = warp_row + half * 8 + lane_ / 4;
#pragma unroll
      for (int n = 0; n < Tile::kVectors; ++n) {
        // + 0: a row that skipped tiles it does not see must not keep a negative zero.
        *reinterpret_cast<std::uint32_t*>(q + n / 8 * Tile::kQueryPanel +
                                          wgmma::swizzled(row, n % 8) + lane_ % 4 * 4) =
            ptx::pack<T>(__fadd_rn(o[4 * n + 2 * half], 0.0f) * inverse,
                         __fadd_rn(o[4 * n + 2 * half + 1], 0.0f) * inverse);
      }
    }
    __syncwarp();
    T* out = out_rows_ + tile.row * out_stride_ + head * kDim;
#pragma unroll
    for (int i = lane_; i < 16 * Tile::kVectors; i += 32) {
      const int row = warp_row + i / Tile::kVectors;
      const int vector = i % Tile::kVectors;
      if (row < tile.rows) {
        *reinterpret_cast<uint4*>(out + row * out_stride_ + vector * 8) =
            *reinterpret_cast<const uint4*>(q + vector / 8 * Tile::kQueryPanel +
                                            wgmma::swizzled(row, vector % 8));
      }
    }
    ptx::named_barrier(3 + group_, 128);
  }

  Shared& s_;
  T* out_rows_;
  std::int64_t out_stride_;
  float scale_log2_;
  int group_;
  int thread_;
  int lane_;
  int use_ = 0;  // of the stages, so far
  // This lane's rows are lane / 4 and lane / 4 + 8 of its warp's 16.
  float maximum_[2];
  float sum_[2];
  float o[kOut];
  std::uint32_t p[kScores / 2];
};

// A counter for each launch under way: launches take them in turn, and as many would have to run
// at once for two to meet.
inline constexpr int kWgmmaCounters = 1024;
static __device__ WgmmaCounter wgmma_counters[kWgmmaCounters];

inline int next_wgmma_counter() {
  static std::atomic<unsigned> launches = 0;
  return static_cast<int>(launches++ % kWgmmaCounters);
}

template <class T, int kDim, class Map, bool kBoxes>
__global__ void __launch_bounds__(WgmmaTile<kDim>::kThreads, 1)
    prefill_wgmma_kernel(const __grid_constant__ PrefillAttentionArgs<Map> a, int tiles,
                         int counter, const __grid_constant__ CUtensorMap queries,
                         const __grid_constant__ CUtensorMap cache) {
#if __CUDA_ARCH_FEAT_SM90_ALL
  using Tile = WgmmaTile<kDim>;
  using Loader = WgmmaLoader<T, kDim, Map, kBoxes>;
  extern __shared__ __align__(1024) unsigned char wgmma_shared[];
  auto& s = *reinterpret_cast<typename Tile::Shared*>(wgmma_shared);
  if (threadIdx.x == 0) {
    for (int i = 0; i < 2; ++i) {
      ptx::barrier_init(ptx::shared_address(&s.q_full[i]), 1);
      ptx::barrier_init(ptx::shared_address(&s.q_empty[i]), Tile::kConsumers);
    }
    for (int i = 0; i < Tile::kStages; ++i) {
      ptx::barrier_init(ptx::shared_address(&s.k_full[i]), Loader::kArrivals);
      ptx::barrier_init(ptx::shared_address(&s.k_empty[i]), Tile::kConsumers);
      ptx::barrier_init(ptx::shared_address(&s.v_full[i]), Loader::kArrivals);
      ptx::barrier_init(ptx::shared_address(&s.v_empty[i]), Tile::kConsumers);
    }
    ptx::barrier_init_fence();
  }
  if (threadIdx.x == 32) {
    ptx::prefetch_tensor_map(&queries);
    ptx::prefetch_tensor_map(&cache);
  }
  ptx::let_next_kernel_start();
  WgmmaWork<kDim>::sort(a, tiles, s);
  __syncthreads();
  ptx::wait_for_earlier_kernels();
  if (threadIdx.x < 128) {
    ptx::fewer_registers<Tile::kProducerRegisters>();
    if (threadIdx.x < Loader::kWarps * 32) {
      Loader(a, queries, cache, s)
          .run(WgmmaWork<kDim>(s, tiles, a.heads, a.heads / a.pool.layout.kv_heads),
               wgmma_counters[counter]);
    }
  } else {
    ptx::more_registers<Tile::kConsumerRegisters>();
    WgmmaConsumer<T, kDim, kBoxes>(s, a.out, a.out_stride, a.scale).run();
  }
#endif
}

template <class T, int kDim, bool kBoxes, class Map>
void launch_prefill_wgmma_by(const PrefillAttentionArgs<Map>& a, int rows, cudaStream_t stream,
                             Dependent dependent) {
  using Tile = WgmmaTile<kDim>;
  constexpr int kShared = static_cast<int>(sizeof(typename Tile::Shared));
  static_assert(kShared <= 227 * 1024);
  static const cudaError_t allowed =
      cudaFuncSetAttribute(prefill_wgmma_kernel<T, kDim, Map, kBoxes>,
                           cudaFuncAttributeMaxDynamicSharedMemorySize, kShared);
  KVSTOW_CUDA(allowed);
  const KvLayout& layout = a.pool.layout;
  const auto slots = static_cast<std::uint64_t>(layout.slots);
  const auto slot_bytes = static_cast<std::uint64_t>(layout.slot_stride()) * 2;
  const auto row_bytes = static_cast<std::uint64_t>(a.q_stride) * 2;
  const CUtensorMap queries = make_tensor_map(
      a.q, a.dtype,
      {{kDim, static_cast<std::uint64_t>(a.heads), static_cast<std::uint64_t>(rows), 1},
       {kDim * 2, row_bytes, row_bytes * static_cast<std::uint64_t>(rows)},
       {1, Tile::kRows, 1}});
  const CUtensorMap cache =
      make_tensor_map(static_cast<const T*>(a.pool.data) + layout.part_offset(a.layer, 0), a.dtype,
                      {{kDim, static_cast<std::uint64_t>(layout.kv_heads), slots, 2},
                       {kDim * 2, slot_bytes, slot_bytes * slots},
                       {1, WgmmaLoader<T, kDim, Map, kBoxes>::kBoxTokens, 1}});
  const int tiles = rows / Tile::kRows + a.sequences;
  launch("prefill_attention", prefill_wgmma_kernel<T, kDim, Map, kBoxes>,
         {.grid = dim3(static_cast<unsigned>(::min(device_blocks(), tiles * a.heads))),
          .block = Tile::kThreads,
          .shared_bytes = kShared,
          .dependent = dependent == Dependent::yes},
         stream, a, tiles, next_wgmma_counter(), queries, cache);
}

template <class T, int kDim>
void launch_prefill_wgmma(const PrefillAttentionArgs<AffineMap>& a, int rows, cudaStream_t stream,
                          Dependent dependent) {
  launch_prefill_wgmma_by<T, kDim, true>(a, rows, stream, dependent);
}
template <class T, int kDim>
void launch_prefill_wgmma(const PrefillAttentionArgs<BlockTableMap>& a, int rows,
                          cudaStream_t stream, Dependent dependent) {
  if (a.map.block_tokens % WgmmaLoader<T, kDim, BlockTableMap, true>::kBoxTokens == 0) {
    launch_prefill_wgmma_by<T, kDim, true>(a, rows, stream, dependent);
  } else {
    launch_prefill_wgmma_by<T, kDim, false>(a, rows, stream, dependent);
  }
}

}  // namespace kvstow::kernels::cuda
