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
#include "kernels/cuda/decode_warp.cuh"
#include "kernels/cuda/launch.h"

namespace kvstow::kernels::cuda {

template <class T, int kDim, class Map>
struct DecodeBody : DecodeWarp<T, kDim> {
  using Warp = DecodeWarp<T, kDim>;
  using Tile = DecodeTile<kDim>;
  using Warp::k_buffer;
  using Warp::lane;
  using Warp::params;
  using Warp::shared;
  using Warp::warp;
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

  const Map& map;

  __device__ DecodeBody(const DecodeParams& p, const Map& m, typename Warp::Shared& s)
      : Warp(p, s), map(m) {}

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

  // --- One leaf ---------------------------------------------------------------------------------

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
      this->clear();
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
        if (works) this->scores(s);
        __syncwarp();
        if (fetched < end) {
          slot = lookup.slot(map);
          this->copy(params.k + head_bytes, k_buffer, slot, fetched, stable, end);
        }
        ptx::copies_commit();
        if (works) this->softmax(s, now.end - token, p);
        ptx::copies_wait<1>();  // V
        __syncwarp();
        if (works) this->values(p);
        __syncwarp();
        if (fetched < end) {
          this->copy(params.v + head_bytes, k_buffer + Tile::kTileBytes, slot, fetched, stable,
                     end);
        }
        ptx::copies_commit();
        token += Tile::kRound;
      } while (!last);
      const bool more = next.number < entries;
      uint4 next_q = {0, 0, 0, 0};
      if (!started) {
        ptx::wait_for_earlier_kernels();
        next_q = load_q(next);
        this->copy_late(kv_head(tile(next)) * (kDim * 2), slot, next.first + warp * Tile::kTokens,
                        stable, next.end);
        stable = kNoLimit;
      } else {
        if (more) next_q = load_q(next);
        __syncthreads();  // results and q of the entry before have been read
      }
      const TileHeads heads(params.tiling, tile(now), kv_head(tile(now)));
      if (started) this->store_results(heads.count);
      store_q(next_q);
      Leaf after = following(next, entries);
      __syncthreads();
      if (started && warp < heads.count) finish(now, heads);
      if (!more) return;
      this->read_q();
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
