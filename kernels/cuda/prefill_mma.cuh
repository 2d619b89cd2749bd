// The body of prefill attention for every GPU: mma.sync, one block per 128 query rows of one head.
//
//            64 tokens at an absolute position
//           +----------------+                 every warp: 32 rows (16 at head_dim 256), all 64
//  128 rows |  S = Q K^T     |  -> P ->  P V   tokens; S and P stay in registers; running maximum
//           +----------------+                 and sum per row, rescaled at every tile
//
// K and V of the next tile are on their way (cp.async, two buffers) while this one is computed.
#pragma once

#include "kernels/cuda/elements.cuh"
#include "kernels/cuda/launch.h"
#include "kernels/cuda/prefill_attention.h"
#include "kernels/cuda/prefill_tile.cuh"

namespace kvstow::kernels::cuda {

template <int kDim>
struct MmaTile {
  static constexpr int kRowTiles = kDim <= 128 ? 2 : 1;  // of 16 rows, in each warp
  static constexpr int kWarps = kDim <= 128 ? 4 : 8;
  static constexpr int kThreads = kWarps * 32;
  static constexpr int kRows = kWarps * kRowTiles * 16;
  static constexpr int kTokens = 64;
  static constexpr int kVectors = kDim / 8;            // of 16 bytes in a row
  static constexpr int kPitch = kDim * 2 + 16;         // an odd number of them: no bank conflicts
  static constexpr int kBlocks = kDim <= 128 ? 2 : 1;  // of a multiprocessor

  struct alignas(16) Shared {
    unsigned char q[kRows * kPitch];  // at the end: the output
    unsigned char k[2][kTokens * kPitch];
    unsigned char v[2][kTokens * kPitch];
    std::int32_t slots[2][kTokens];  // -1: past the end of the sequence
    QueryTile tile;                  // here, because registers are scarce
  };
};

template <class T, int kDim, class Map>
class MmaBody {
 public:
  using Tile = MmaTile<kDim>;
  using Shared = typename Tile::Shared;
  static constexpr int kMs = Tile::kRowTiles;
  static constexpr int kSteps = kDim / 16;

  __device__ MmaBody(const PrefillAttentionArgs<Map>& a, Shared& s, int head)
      : a_(a),
        s_(s),
        tile_(s.tile),
        head_(head),
        thread_(static_cast<int>(threadIdx.x)),
        lane_(thread_ % 32),
        row_(thread_ / 32 * kMs * 16) {
    const KvLayout& layout = a.pool.layout;
    const auto kv_head = head / (a.heads / layout.kv_heads);
    k_ = static_cast<const T*>(a.pool.data) + layout.part_offset(a.layer, 0) + kv_head * kDim;
#pragma unroll
    for (int m = 0; m < kMs; ++m) maximum_[m][0] = maximum_[m][1] = -INFINITY;
  }

  __device__ void run() {
    const int tiles = (tile_.position + tile_.rows - 1) / Tile::kTokens + 1;
    set_slot(0, find_slot(0));
    if (tiles > 1) set_slot(1, find_slot(1));
    load_queries();
    __syncthreads();
    load_keys_and_values(0);
    const float scale_log2 = a_.scale * 1.4426950408889634f;
    const int first_position = tile_.position + row_;
    const int last_position = first_position + kMs * 16 - 1;
    for (int t = 0; t < tiles; ++t) {
      asm volatile("cp.async.wait_all;" ::: "memory");
      __syncthreads();
      if (t + 1 < tiles) load_keys_and_values(t + 1);
      // Looked up here and stored below: nobody waits for the table.
      const std::int32_t slot = t + 2 < tiles ? find_slot(t + 2) : -1;
      const int token = t * Tile::kTokens;
      if (token <= last_position) {
        float s[kMs][Tile::kTokens / 8][4] = {};
        scores(t % 2, s);
        if (token + Tile::kTokens - 1 > first_position) mask(token, first_position, s);
        std::uint32_t p[kMs][Tile::kTokens / 8][2];
#pragma unroll
        for (int m = 0; m < kMs; ++m) softmax(m, scale_log2, s[m], p[m]);
        values(t % 2, p);
      }
      set_slot(t, slot);  // the buffer of t + 2; t's slots were read an iteration ago
    }
    write();
  }

 private:
  // --- Memory to shared memory ------------------------------------------------------------------

  // This thread's token of a tile.
  __device__ std::int32_t find_slot(int t) const {
    const int position = t * Tile::kTokens + thread_;
    if (thread_ >= Tile::kTokens || position >= tile_.kv_length) return -1;
    return static_cast<std::int32_t>(slot_of(a_.map, a_.map_row[tile_.sequence], position));
  }
  __device__ void set_slot(int t, std::int32_t slot) {
    if (thread_ < Tile::kTokens) s_.slots[t % 2][thread_] = slot;
  }

  __device__ void load_queries() {
    const T* q = static_cast<const T*>(a_.q) + tile_.row * a_.q_stride + head_ * kDim;
    const std::uint32_t to = ptx::shared_address(s_.q);
#pragma unroll
    for (int i = thread_; i < Tile::kRows * Tile::kVectors; i += Tile::kThreads) {
      const int row = i / Tile::kVectors;
      const int vector = i % Tile::kVectors;
      const bool valid = row < tile_.rows;
      ptx::copy16_async_or_zero(to + row * Tile::kPitch + vector * 16,
                                q + (valid ? row * a_.q_stride + vector * 8 : 0), valid);
    }
  }

  __device__ void load_keys_and_values(int t) {
    const std::int64_t stride = a_.pool.layout.slot_stride();
    const T* from_v = k_ + a_.pool.layout.slots * stride;
    const std::uint32_t k = ptx::shared_address(s_.k[t % 2]);
    const std::uint32_t v = ptx::shared_address(s_.v[t % 2]);
#pragma unroll 4
    for (int i = 0; i < Tile::kTokens * Tile::kVectors / Tile::kThreads; ++i) {
      const int index = i * Tile::kThreads + thread_;
      const int token = index / Tile::kVectors;
      const int vector = index % Tile::kVectors;
      const std::int32_t slot = s_.slots[t % 2][token];
      const std::int64_t from = slot < 0 ? 0 : slot * stride + vector * 8;
      const int to = token * Tile::kPitch + vector * 16;
      ptx::copy16_async_or_zero(k + to, k_ + from, slot >= 0);
      ptx::copy16_async_or_zero(v + to, from_v + from, slot >= 0);
    }
  }

  // --- One tile ---------------------------------------------------------------------------------

  __device__ void scores(int buffer, float (&s)[kMs][Tile::kTokens / 8][4]) {
    const std::uint32_t q =
        ptx::shared_address(s_.q) + (row_ + lane_ % 16) * Tile::kPitch + lane_ / 16 * 16;
    const std::uint32_t k = ptx::shared_address(s_.k[buffer]) +
                            (lane_ / 16 * 8 + lane_ % 8) * Tile::kPitch + lane_ / 8 % 2 * 16;
#pragma unroll
    for (int step = 0; step < kSteps; ++step) {
      std::uint32_t a[kMs][4];
#pragma unroll
      for (int m = 0; m < kMs; ++m) {
        ptx::load_matrix_x4(a[m], q + m * 16 * Tile::kPitch + step * 32);
      }
#pragma unroll
      for (int n = 0; n < Tile::kTokens / 16; ++n) {
        std::uint32_t b[4];
        ptx::load_matrix_x4(b, k + n * 16 * Tile::kPitch + step * 32);
#pragma unroll
        for (int m = 0; m < kMs; ++m) {
          ptx::mma_16816<T>(s[m][2 * n], a[m], b[0], b[1]);
          ptx::mma_16816<T>(s[m][2 * n + 1], a[m], b[2], b[3]);
        }
      }
    }
  }

  // Hides what lies after a row's own position.
  __device__ void mask(int token, int first_position, float (&s)[kMs][Tile::kTokens / 8][4]) {
#pragma unroll
    for (int m = 0; m < kMs; ++m) {
#pragma unroll
      for (int n = 0; n < Tile::kTokens / 8; ++n) {
#pragma unroll
        for (int i = 0; i < 4; ++i) {
          const int key = token + n * 8 + lane_ % 4 * 2 + i % 2;
          if (key > first_position + m * 16 + lane_ / 4 + i / 2 * 8) s[m][n][i] = -INFINITY;
        }
      }
    }
  }

  // Scores of 16 rows to probabilities; what was summed so far is scaled to the new maximum.
  __device__ void softmax(int m, float scale_log2, const float (&s)[Tile::kTokens / 8][4],
                          std::uint32_t (&p)[Tile::kTokens / 8][2]) {
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      float largest = maximum_[m][half];
#pragma unroll
      for (int n = 0; n < Tile::kTokens / 8; ++n) {
        largest = fmaxf(largest, fmaxf(s[n][2 * half], s[n][2 * half + 1]));
      }
      largest = fmaxf(largest, __shfl_xor_sync(0xffffffffu, largest, 1));
      largest = fmaxf(largest, __shfl_xor_sync(0xffffffffu, largest, 2));
      const float factor =
          ptx::exp2_fast(__fmul_rn(__fsub_rn(maximum_[m][half], largest), scale_log2));
      const float shift = __fmul_rn(largest, scale_log2);
      float sum = 0;
#pragma unroll
      for (int n = 0; n < Tile::kTokens / 8; ++n) {
        const float x = ptx::exp2_fast(__fmaf_rn(s[n][2 * half], scale_log2, -shift));
        const float y = ptx::exp2_fast(__fmaf_rn(s[n][2 * half + 1], scale_log2, -shift));
        sum += x + y;
        p[n][half] = ptx::pack<T>(x, y);
      }
      sum_[m][half] = __fmaf_rn(sum_[m][half], factor, sum);
      maximum_[m][half] = largest;
#pragma unroll
      for (int n = 0; n < kDim / 8; ++n) {
        out_[m][n][2 * half] *= factor;
        out_[m][n][2 * half + 1] *= factor;
      }
    }
  }

  __device__ void values(int buffer, const std::uint32_t (&p)[kMs][Tile::kTokens / 8][2]) {
    const std::uint32_t v =
        ptx::shared_address(s_.v[buffer]) + lane_ % 16 * Tile::kPitch + lane_ / 16 * 16;
#pragma unroll
    for (int step = 0; step < Tile::kTokens / 16; ++step) {
#pragma unroll
      for (int n = 0; n < kSteps; ++n) {
        std::uint32_t b[4];
        ptx::load_matrix_x4_transposed(b, v + step * 16 * Tile::kPitch + n * 32);
#pragma unroll
        for (int m = 0; m < kMs; ++m) {
          const std::uint32_t a[4] = {p[m][2 * step][0], p[m][2 * step][1], p[m][2 * step + 1][0],
                                      p[m][2 * step + 1][1]};
          ptx::mma_16816<T>(out_[m][2 * n], a, b[0], b[1]);
          ptx::mma_16816<T>(out_[m][2 * n + 1], a, b[2], b[3]);
        }
      }
    }
  }

  // --- The result -------------------------------------------------------------------------------

  // Through shared memory (each warp where its own queries were), so that a row leaves in vectors.
  __device__ void write() {
    __syncwarp();
#pragma unroll
    for (int m = 0; m < kMs; ++m) {
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        float sum = sum_[m][half];
        sum += __shfl_xor_sync(0xffffffffu, sum, 1);
        sum += __shfl_xor_sync(0xffffffffu, sum, 2);
        const float inverse = 1 / sum;
        unsigned char* to =
            s_.q + (row_ + m * 16 + half * 8 + lane_ / 4) * Tile::kPitch + lane_ % 4 * 4;
#pragma unroll
        for (int n = 0; n < kDim / 8; ++n) {
          // + 0: a row that skipped tiles it does not see must not keep a negative zero.
          *reinterpret_cast<std::uint32_t*>(to + n * 16) =
              ptx::pack<T>(__fadd_rn(out_[m][n][2 * half], 0.0f) * inverse,
                           __fadd_rn(out_[m][n][2 * half + 1], 0.0f) * inverse);
        }
      }
    }
    __syncwarp();
    T* out = static_cast<T*>(a_.out) + tile_.row * a_.out_stride + head_ * kDim;
    for (int i = lane_; i < kMs * 16 * Tile::kVectors; i += 32) {
      const int row = row_ + i / Tile::kVectors;
      const int vector = i % Tile::kVectors;
      if (row >= tile_.rows) break;
      *reinterpret_cast<uint4*>(out + row * a_.out_stride + vector * 8) =
          *reinterpret_cast<const uint4*>(s_.q + row * Tile::kPitch + vector * 16);
    }
  }

  const PrefillAttentionArgs<Map>& a_;
  Shared& s_;
  const QueryTile& tile_;
  const T* k_;
  int head_;
  int thread_;
  int lane_;
  int row_;  // first of this warp, in the tile
  // This lane's rows are lane / 4 and lane / 4 + 8 of each 16, its columns lane % 4 * 2 + {0, 1} of
  // each 8.
  float out_[kMs][kDim / 8][4] = {};
  float maximum_[kMs][2];
  float sum_[kMs][2] = {};
};

template <class T, int kDim, class Map>
__global__ void __launch_bounds__(MmaTile<kDim>::kThreads, MmaTile<kDim>::kBlocks)
    prefill_mma_kernel(const __grid_constant__ PrefillAttentionArgs<Map> a) {
  extern __shared__ __align__(16) unsigned char memory[];
  ptx::let_next_kernel_start();
  ptx::wait_for_earlier_kernels();
  auto& shared = *reinterpret_cast<typename MmaTile<kDim>::Shared*>(memory);
  if (threadIdx.x == 0) {
    // The last rows of a prompt read the longest contexts: they go first.
    const int index = static_cast<int>(gridDim.y - 1 - blockIdx.y);
    shared.tile = QueryTile::find(a, index, MmaTile<kDim>::kRows);
  }
  __syncthreads();
  if (shared.tile.rows <= 0) return;
  MmaBody<T, kDim, Map>(a, shared, static_cast<int>(blockIdx.x)).run();
}

template <class T, int kDim, class Map>
void launch_prefill_mma(const PrefillAttentionArgs<Map>& a, int rows, cudaStream_t stream,
                        Dependent dependent) {
  using Tile = MmaTile<kDim>;
  constexpr int kShared = static_cast<int>(sizeof(typename Tile::Shared));
  static const cudaError_t allowed = cudaFuncSetAttribute(
      prefill_mma_kernel<T, kDim, Map>, cudaFuncAttributeMaxDynamicSharedMemorySize, kShared);
  KVSTOW_CUDA(allowed);
  const auto tiles = static_cast<unsigned>(rows / Tile::kRows + a.sequences);
  launch("prefill_attention", prefill_mma_kernel<T, kDim, Map>,
         {.grid = dim3(static_cast<unsigned>(a.heads), tiles),
          .block = Tile::kThreads,
          .shared_bytes = kShared,
          .dependent = dependent == Dependent::yes},
         stream, a);
}

}  // namespace kvstow::kernels::cuda
