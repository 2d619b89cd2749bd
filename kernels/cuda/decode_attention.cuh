// The body of decode attention: eight warps without roles, each its own pipeline. A warp takes 16
// tokens at a time, and while it multiplies them it fetches its next 16, of this leaf or of the
// block's next one, into the same two buffers:
//
//   S = K Q^T     tokens are the M of mma.m16n8k16, query heads of the tile its N; then K's buffer
//                 is free for the next tile
//   softmax       over the warp's tokens so far: a column's maximum by shuffles, P in registers
//   O^T = V^T P   dimensions are M, tokens K: the lanes that have a column's maximum have its
//                 accumulators, so rescaling needs no exchange; then V's buffer is free
//
// Warps meet once a leaf, to put their results together: one warp for each head.
//
// While the launch before still runs, a block fetches its first tiles as far as they hold tokens of
// earlier steps, and asks L2 for the rest.
//
// Products and sums whose result is kept are written with explicit rounding where the compiler
// could contract them one way in one instantiation and another way in the next: the bits must not
// depend on the map.
#pragma once

#include "kernels/cuda/decode_attention.h"
#include "kernels/cuda/decode_merge.cuh"
#include "kernels/cuda/launch.h"

namespace kvstow::kernels::cuda {

template <class T, int kDim, class Map>
struct DecodeBody {
  using Tile = DecodeTile<kDim>;
  using Shared = typename Tile::Shared;
  static constexpr int kSteps = Tile::kSteps;
  static constexpr int kNoLimit = 0x7fffffff;

  // A leaf of an entry.
  struct Leaf {
    std::int32_t number;  // of the entry: unit * tiles + tile
    Unit unit;
    std::int32_t first;  // token of the leaf
    std::int32_t end;
    std::int32_t map_row;

    __device__ bool starts_unit() const {
      return first == unit.leaves_before() * unit.leaf_tokens();
    }
    __device__ bool ends_unit() const { return end == unit.end; }
  };

  const DecodeParams& params;
  const Map& map;
  Shared& shared;
  int warp;
  int lane;
  std::uint32_t k_buffer;
  std::uint32_t q[kSteps][2];  // B fragments: head lane / 4
  float acc[kSteps][4];        // dimensions lane / 4 + {0, 8}, heads 2 (lane % 4) + {0, 1}
  float sum[4];
  float maximum[2];  // scaled

  __device__ DecodeBody(const DecodeParams& p, const Map& m, Shared& s)
      : params(p),
        map(m),
        shared(s),
        warp(static_cast<int>(threadIdx.x) / 32),
        lane(static_cast<int>(threadIdx.x) % 32),
        k_buffer(ptx::shared_address(s.kv[warp])) {}

  // --- Leaves -----------------------------------------------------------------------------------

  // The first leaf of an entry; its map row, another load, comes later.
  __device__ Leaf first_leaf(int number) const {
    Leaf e;
    e.number = number;
    const int4 raw =
        __ldg(reinterpret_cast<const int4*>(params.units) + params.by_tiles.quotient(number));
    e.unit = {raw.x, raw.y, raw.z, raw.w};
    e.first = e.unit.first;
    e.end = ::min(e.unit.end, e.first + e.unit.leaf_tokens());
    return e;
  }

  __device__ Leaf following(const Leaf& e, int entries) const {
    Leaf f = e;
    if (e.ends_unit()) {
      f.number += static_cast<int>(gridDim.x);
      f.first = f.end = 0;
      return f.number < entries ? first_leaf(f.number) : f;
    }
    f.first = e.end;
    f.end = ::min(e.unit.end, f.first + e.unit.leaf_tokens());
    return f;
  }

  __device__ int tile(const Leaf& e) const {
    return e.number - static_cast<int>(params.by_tiles.quotient(e.number)) * params.tiling.tiles;
  }
  __device__ int kv_head(int tile) const {
    return static_cast<int>(params.by_tiles_per_kv_head.quotient(tile));
  }

  // --- Copies -----------------------------------------------------------------------------------

  // A tile into one of the two buffers. Lane l % 16 holds the slot of token l. Tokens from `end` on
  // become zeros: 0 times what was there could be NaN. Tokens from `stable` to `end` may still be
  // written and are left to copy_late.
  __device__ void copy(const unsigned char* from, std::uint32_t to, std::uint32_t slot, int token,
                       int stable, int end) const {
    if (token + Tile::kTokens <= ::min(stable, end)) {
      if constexpr (32 % Tile::kVectors == 0) {
        constexpr int kRows = 32 / Tile::kVectors;  // of one copy of the warp, a power of two
        const int row = lane / Tile::kVectors;
        const int vector = lane % Tile::kVectors;
        to += Tile::place(row, vector);
        from += vector * 16;
#pragma unroll
        for (int i = 0; i < Tile::kCopies; ++i) {
          const std::uint64_t s = __shfl_sync(0xffffffffu, slot, i * kRows + row);
          ptx::copy16_async((to ^ (i * kRows % 8 * 16)) + i * kRows * Tile::kPitch,
                            from + s * params.slot_bytes);
        }
      } else {
#pragma unroll
        for (int i = 0; i < Tile::kCopies; ++i) {
          const int row = (i * 32 + lane) / Tile::kVectors;
          const int vector = (i * 32 + lane) % Tile::kVectors;
          const std::uint64_t s = __shfl_sync(0xffffffffu, slot, row);
          ptx::copy16_async(to + Tile::place(row, vector),
                            from + vector * 16 + s * params.slot_bytes);
        }
      }
      return;
    }
#pragma unroll 1
    for (int i = 0; i < Tile::kCopies; ++i) {
      const int row = (i * 32 + lane) / Tile::kVectors;
      const int vector = (i * 32 + lane) % Tile::kVectors;
      const std::uint64_t s = __shfl_sync(0xffffffffu, slot, row);
      const unsigned char* source = from + vector * 16 + s * params.slot_bytes;
      const bool valid = token + row < end;
      if (valid && token + row >= stable) {
        ptx::prefetch_l2(source);
      } else {
        ptx::copy16_async_or_zero(to + Tile::place(row, vector), source, valid);
      }
    }
  }

  // K and V of the tile's tokens [stable, end): usually one, the step's own.
  __device__ void copy_late(int head_bytes, std::uint32_t slot, int token, int stable,
                            int end) const {
#pragma unroll 1
    for (int row = ::max(0, stable - token); row < ::min(Tile::kTokens, end - token); ++row) {
      const std::uint64_t s = __shfl_sync(0xffffffffu, slot, row);
#pragma unroll
      for (int i = lane; i < 2 * Tile::kVectors; i += 32) {
        const int part = i / Tile::kVectors;
        const int vector = i % Tile::kVectors;
        ptx::copy16_async(
            k_buffer + part * Tile::kTileBytes + Tile::place(row, vector),
            (part == 0 ? params.k : params.v) + head_bytes + vector * 16 + s * params.slot_bytes);
      }
    }
    ptx::copies_commit();
    ptx::copies_wait<0>();
  }

  // The tile's query heads, through shared memory: rows past its heads keep what was there, which
  // only reaches columns that nobody reads.
  __device__ uint4 load_q(const Leaf& e) const {
    const int thread = static_cast<int>(threadIdx.x);
    const int head = thread / Tile::kVectors;
    const TileHeads heads(params.tiling, tile(e), kv_head(tile(e)));
    if (head >= heads.count) return {0, 0, 0, 0};
    return *reinterpret_cast<const uint4*>(
        static_cast<const T*>(params.q) + e.unit.row * params.q_stride +
        (heads.first + head) * kDim + thread % Tile::kVectors * 8);
  }
  __device__ void store_q(uint4 vector) const {
    const int thread = static_cast<int>(threadIdx.x);
    if (thread < kTileHeads * Tile::kVectors) {
      *reinterpret_cast<uint4*>(shared.q + thread / Tile::kVectors * Tile::kQueryPitch +
                                thread % Tile::kVectors * 16) = vector;
    }
  }
  __device__ void read_q() {
    const std::uint32_t at =
        ptx::shared_address(shared.q) + lane % 8 * Tile::kQueryPitch + lane / 8 * 16;
#pragma unroll
    for (int step = 0; step + 1 < kSteps; step += 2) {
      std::uint32_t b[4];
      ptx::load_matrix_x4(b, at + step * 32);
      q[step][0] = b[0];
      q[step][1] = b[1];
      q[step + 1][0] = b[2];
      q[step + 1][1] = b[3];
    }
    if constexpr (kSteps % 2 == 1) {
      ptx::load_matrix_x2(q[kSteps - 1][0], q[kSteps - 1][1], at + (kSteps - 1) * 32);
    }
  }

  // --- One tile ---------------------------------------------------------------------------------

  // Even and odd k-steps are summed apart, so that one chain of additions need not wait for the
  // other.
  __device__ void scores(float (&s)[4]) const {
    float odd[4] = {};
    const std::uint32_t k = k_buffer + Tile::place(lane % 16, lane / 16);
#pragma unroll
    for (int step = 0; step < kSteps; ++step) {
      std::uint32_t a[4];
      ptx::load_matrix_x4(a, Tile::pair_of(k, step));
      ptx::mma_16816<T>(step % 2 ? odd : s, a, q[step][0], q[step][1]);
    }
#pragma unroll
    for (int i = 0; i < 4; ++i) s[i] = __fadd_rn(s[i], odd[i]);
  }

  // Scores become probabilities (B fragments of the next product) and what came before is scaled.
  __device__ void softmax(float (&s)[4], int tokens, std::uint32_t (&p)[2]) {
    if (lane / 4 >= tokens) s[0] = s[1] = -INFINITY;
    if (lane / 4 + 8 >= tokens) s[2] = s[3] = -INFINITY;
    float factor[2];
#pragma unroll
    for (int c = 0; c < 2; ++c) {
      float m = fmaxf(s[c], s[c + 2]);
#pragma unroll
      for (int offset = 4; offset < 32; offset *= 2) {
        m = fmaxf(m, __shfl_xor_sync(0xffffffffu, m, offset));
      }
      m = fmaxf(maximum[c], __fmul_rn(m, params.scale_log2));
      factor[c] = ptx::exp2_fast(__fsub_rn(maximum[c], m));
      maximum[c] = m;
    }
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      s[i] = ptx::exp2_fast(__fmaf_rn(s[i], params.scale_log2, -maximum[i % 2]));
      sum[i] = __fmul_rn(sum[i], factor[i % 2]);
    }
    p[0] = ptx::transpose8x8(ptx::pack<T>(s[0], s[1]));
    p[1] = ptx::transpose8x8(ptx::pack<T>(s[2], s[3]));
#pragma unroll
    for (int m = 0; m < kSteps; ++m) {
#pragma unroll
      for (int i = 0; i < 4; ++i) acc[m][i] = __fmul_rn(acc[m][i], factor[i % 2]);
    }
  }

  // The sum of probabilities is a product with ones: every row of it is what is needed.
  __device__ void values(const std::uint32_t (&p)[2]) {
    constexpr std::uint32_t kOne = __is_same(T, __half) ? 0x3c003c00u : 0x3f803f80u;
    constexpr std::uint32_t kOnes[4] = {kOne, kOne, kOne, kOne};
    ptx::mma_16816<T>(sum, kOnes, p[0], p[1]);
    const std::uint32_t v =
        k_buffer + Tile::kTileBytes + Tile::place(lane % 8 + lane / 16 * 8, lane / 8 % 2);
#pragma unroll
    for (int m = 0; m < kSteps; ++m) {
      std::uint32_t a[4];
      ptx::load_matrix_x4_transposed(a, Tile::pair_of(v, m));
      ptx::mma_16816<T>(acc[m], a, p[0], p[1]);
    }
  }

  // --- One entry --------------------------------------------------------------------------------

  __device__ void clear() {
    maximum[0] = maximum[1] = -INFINITY;
#pragma unroll
    for (int i = 0; i < 4; ++i) sum[i] = 0;
#pragma unroll
    for (int m = 0; m < kSteps; ++m) {
#pragma unroll
      for (int i = 0; i < 4; ++i) acc[m][i] = 0;
    }
  }

  __device__ void store_results(int heads) const {
#pragma unroll
    for (int c = 0; c < 2; ++c) {
      const int head = lane % 4 * 2 + c;
      if (head < heads) {
        if (lane < 4) shared.scalars[warp][head] = {maximum[c], sum[c]};
        float* row = shared.results[warp][head] + lane / 4;
#pragma unroll
        for (int m = 0; m < kSteps; ++m) {
          row[m * 16] = acc[m][c];
          row[m * 16 + 8] = acc[m][c + 2];
        }
      }
    }
  }

  // One head a warp.
  __device__ void finish(const Leaf& e, TileHeads heads) const {
    HeadMerge<kDim> head{lane};
    head.merge_warps(shared, warp);
    if (!e.starts_unit()) head.fold_onto(shared.state[warp]);
    if (!e.ends_unit()) {
      head.keep(shared.state[warp]);
      return;
    }
    float* part = params.parts + std::int64_t{e.number} * params.part_floats + warp * (kDim + 4);
    if (!e.unit.ends_row()) {
      head.publish(part);
      return;
    }
    const int others = e.unit.leaves_before();
    if (others > 0) {
      const std::int64_t step = std::int64_t{params.tiling.tiles} * params.part_floats;
      head.fold_onto_others(part - others * step, step, others);
    }
    head.write(static_cast<T*>(params.out) + e.unit.row * params.out_stride +
               (heads.first + warp) * kDim);
  }

  __device__ void run() {
    Leaf next = first_leaf(static_cast<int>(blockIdx.x));
    const int entries = __ldg(params.unit_count) * params.tiling.tiles;
    if (next.number >= entries) return;
    next.map_row = __ldg(params.map_row + next.unit.row);
    int stable = params.stable_length ? __ldg(params.stable_length + next.unit.row) : 0;
    Leaf now = next;  // before the first leaf there is one without tokens
    now.end = now.first;
    bool started = false;
    std::uint32_t slot = 0;
    Lookup<Map> lookup;
#pragma unroll 1
    for (;;) {
      clear();
      int token = now.first + warp * Tile::kTokens;
      bool last;
#pragma unroll 1
      do {
        last = token + Tile::kRound >= now.end;
        const int fetched = last ? next.first + warp * Tile::kTokens : token + Tile::kRound;
        const int end = last ? next.end : now.end;
        const int head_bytes = kv_head(tile(last ? next : now)) * (kDim * 2);
        if (fetched < end) {
          lookup.load(params, map, last ? next.map_row : now.map_row,
                      ::min(fetched + lane % 16, end - 1));
        }
        const bool works = token < now.end;
        float s[4] = {};
        std::uint32_t p[2];
        ptx::copies_wait<1>();  // K
        __syncwarp();
        if (works) scores(s);
        __syncwarp();
        if (fetched < end) {
          slot = lookup.slot(map);
          copy(params.k + head_bytes, k_buffer, slot, fetched, stable, end);
        }
        ptx::copies_commit();
        if (works) softmax(s, now.end - token, p);
        ptx::copies_wait<1>();  // V
        __syncwarp();
        if (works) values(p);
        __syncwarp();
        if (fetched < end) {
          copy(params.v + head_bytes, k_buffer + Tile::kTileBytes, slot, fetched, stable, end);
        }
        ptx::copies_commit();
        token += Tile::kRound;
      } while (!last);
      const bool more = next.number < entries;
      uint4 next_q = {0, 0, 0, 0};
      if (!started) {
        ptx::wait_for_earlier_kernels();
        next_q = load_q(next);
        copy_late(kv_head(tile(next)) * (kDim * 2), slot, next.first + warp * Tile::kTokens, stable,
                  next.end);
        stable = kNoLimit;
      } else {
        if (more) next_q = load_q(next);
        __syncthreads();  // results and q of the entry before have been read
      }
      const TileHeads heads(params.tiling, tile(now), kv_head(tile(now)));
      if (started) store_results(heads.count);
      store_q(next_q);
      Leaf after = following(next, entries);
      __syncthreads();
      if (started && warp < heads.count) finish(now, heads);
      if (!more) return;
      read_q();
      if (next.ends_unit() && after.number < entries) {
        after.map_row = __ldg(params.map_row + after.unit.row);
      }
      now = next;
      next = after;
      started = true;
    }
  }
};

template <class T, int kDim, class Map>
__global__ void __launch_bounds__(DecodeTile<kDim>::kThreads, DecodeTile<kDim>::kBlocks)
    decode_kernel(const __grid_constant__ DecodeParams params, const __grid_constant__ Map map) {
  extern __shared__ __align__(1024) unsigned char dynamic_shared[];
  ptx::let_next_kernel_start();
  DecodeBody<T, kDim, Map>(params, map,
                           *reinterpret_cast<typename DecodeTile<kDim>::Shared*>(dynamic_shared))
      .run();
  ptx::wait_for_earlier_kernels();  // also in blocks without work: completion must be transitive
}

// Blocks wait for others of their grid, so all of it has to be resident.
template <class T, int kDim, class Map>
void launch_decode_body(const DecodeParams& params, const Map& map, std::int64_t entries,
                        int multiprocessors, cudaStream_t stream, Dependent dependent) {
  using Tile = DecodeTile<kDim>;
  constexpr int kShared = sizeof(typename Tile::Shared);
  static_assert(Tile::kBlocks * (kShared + 1024) <= 228 * 1024);
  const auto kernel = decode_kernel<T, kDim, Map>;
  static const int resident = [&] {
    int blocks = 0;
    KVSTOW_CUDA(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, kShared));
    KVSTOW_CUDA(
        cudaOccupancyMaxActiveBlocksPerMultiprocessor(&blocks, kernel, Tile::kThreads, kShared));
    return blocks;
  }();
  const std::int64_t most = std::int64_t{resident} * multiprocessors;
  launch("decode attention", kernel,
         {.grid = dim3(static_cast<unsigned>(entries < most ? entries : most)),
          .block = dim3(Tile::kThreads),
          .shared_bytes = kShared,
          .dependent = dependent == Dependent::yes},
         stream, params, map);
}

// The dispatch table: one body for each dtype (a source file each), head_dim and map.
template <class T, class Map>
void launch_decode(const DecodeParams& params, const Map& map, int head_dim, std::int64_t entries,
                   int multiprocessors, cudaStream_t stream, Dependent dependent);

}  // namespace kvstow::kernels::cuda
