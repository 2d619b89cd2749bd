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
// earlier steps, and asks L2 for the rest. Bodies differ in what else they do in advance, because
// it takes time in launches that do not need it (DecodeAhead).
//
// Products and sums whose result is kept are written with explicit rounding where the compiler
// could contract them one way in one instantiation and another way in the next: the bits must not
// depend on the map.
#pragma once

#include "kernels/cuda/decode_merge.cuh"
#include "kernels/cuda/decode_warp.cuh"

namespace kvstow::kernels::cuda {

template <class T, int kDim, class Map, DecodeAhead kAhead>
struct DecodeBody : DecodeWarp<T, kDim> {
  using Warp = DecodeWarp<T, kDim>;
  using Tile = DecodeTile<kDim>;
  using Warp::k_buffer;
  using Warp::lane;
  using Warp::params;
  using Warp::shared;
  using Warp::warp;
  static constexpr int kNoLimit = 0x7fffffff;

  // A leaf of one of the block's parts.
  struct Leaf {
    int part;  // its place in the block's list
    int number;
    std::int32_t first;  // token
    std::int32_t end;
    std::int32_t map_row;
    std::int32_t head_bytes;  // from the first K/V head to this one
  };

  const Map& map;

  __device__ DecodeBody(const DecodeParams& p, const Map& m, typename Warp::Shared& s)
      : Warp(p, s), map(m) {}

  // --- Leaves -----------------------------------------------------------------------------------

  __device__ const Part* listed(int part) const {
    return params.list + part * static_cast<int>(gridDim.x) + blockIdx.x;
  }
  __device__ Part load_part(int part) const {
    const int4 raw = __ldg(reinterpret_cast<const int4*>(listed(part)));
    return {raw.x, raw.y, raw.z, static_cast<std::uint32_t>(raw.w)};
  }
  __device__ Part& kept(int part) const { return shared.parts[part % 4]; }

  __device__ Leaf leaf(const Part& part, int place, int number) const {
    const bool any = number < part.end();
    return {place,
            number,
            any ? leaf_begin(part.length, number) : 0,
            any ? leaf_begin(part.length, number + 1) : 0,
            part.map_row,
            kv_head(part.tile()) * (kDim * 2)};
  }
  // After the last leaf there are leaves without tokens.
  __device__ Leaf following(const Leaf& l) const {
    const Part& part = kept(l.part);
    if (l.number + 1 < part.end()) return leaf(part, l.part, l.number + 1);
    if (!part.more()) return {l.part + 1, 0, 0, 0, 0, 0};
    const Part& next = kept(l.part + 1);
    return leaf(next, l.part + 1, next.first());
  }

  __device__ int kv_head(int tile) const {
    return static_cast<int>(params.by_tiles_per_kv_head.quotient(tile));
  }
  __device__ TileHeads heads_of(const Part& part) const {
    return {params.tiling, part.tile(), kv_head(part.tile())};
  }

  // --- One leaf ---------------------------------------------------------------------------------

  // Where this thread's share of a part's query heads is; null past the tile's heads.
  __device__ const T* query(const Part& part) const {
    const TileHeads heads = heads_of(part);
    const int head = static_cast<int>(threadIdx.x) / Tile::kVectors;
    const int vector = static_cast<int>(threadIdx.x) % Tile::kVectors;
    if (head >= heads.count) return nullptr;
    return static_cast<const T*>(params.q) + part.row * params.q_stride +
           (heads.first + head) * kDim + vector * 8;
  }
  // Into shared memory; rows past the tile's heads keep what was there, which only reaches columns
  // that nobody reads.
  __device__ void fetch_query(const T* from, int place) const {
    const int head = static_cast<int>(threadIdx.x) / Tile::kVectors;
    const int vector = static_cast<int>(threadIdx.x) % Tile::kVectors;
    if (from != nullptr) {
      ptx::copy16_async(
          ptx::shared_address(shared.q[place % 2]) + head * Tile::kQueryPitch + vector * 16, from);
    }
  }
  // The query heads of a later part, and the part after it.
  __device__ void fetch_ahead(int place) const {
    const Part& part = kept(place);
    fetch_query(query(part), place);
    if (threadIdx.x == 0 && part.more()) {
      ptx::copy16_async(ptx::shared_address(&kept(place + 1)), listed(place + 1));
    }
    ptx::copies_arrive(ptx::shared_address(&shared.ahead));
  }
  __device__ void wait_for_ahead(int place) const {
    ptx::barrier_wait(ptx::shared_address(&shared.ahead), place - 1 & 1);
  }

  // K of the block's second tile into its buffer, if it is of the first part and all its tokens
  // were there before this step.
  __device__ bool fetch_second(const Leaf& first, const Leaf& after, int stable) const {
    const bool same = first.first + Tile::kRound < first.end;
    if (!same && after.part > first.part) return false;
    const int token = (same ? first.first + Tile::kRound : after.first) + warp * Tile::kTokens;
    const int end = ::min(stable, same ? first.end : after.end);
    if (token + Tile::kTokens > end) return false;
    const int t = token + lane % 16;
    const auto lookup =
        Lookup<Map>::of(params, map, t, Lookup<Map>::load(params, map, first.map_row, t));
    this->copy(params.k + first.head_bytes, k_buffer, lookup.slot(map), token, end, end);
    return true;
  }

  // One head a warp.
  __device__ void finish(const Leaf& l) const {
    const Part part = kept(l.part);
    const TileHeads heads = heads_of(part);
    HeadMerge<kDim> head{lane};
    const bool last = l.number + 1 >= part.end();
    if (part.team() == 1) {
      if (warp >= heads.count) return;
      head.merge_warps(shared, warp);
      const LocalState state{shared.states[warp]};
      if (l.number > 0) head.fold_onto(state);
      if (!last) return head.keep(state);
    } else if (!share(head, part, l, heads.count, last)) {
      return;
    }
    head.write(static_cast<T*>(params.out) + part.row * params.out_stride +
               (heads.first + warp) * kDim);
  }

  // The same where a team shares the item. Whether this block has put the head together.
  //
  // A phase of a head's barriers is an item. Its owner goes on to the next one when every block of
  // the team has been there, also one without leaves: parities tell a phase from the next one only.
  // For the same reason a warp without a head takes part where other tiles have more heads.
  __device__ bool share(HeadMerge<kDim>& head, const Part& part, const Leaf& l, int heads,
                        bool last) const {
    const bool has_head = warp < heads;
    if (!has_head && params.tiling.group < kTileHeads) return false;
    const int team = part.team();
    const int first_block = ptx::cluster_rank() - part.rank();
    const int place = warp / team;          // among the heads of the block
    const int owner = warp - place * team;  // that puts this head together
    const int step = own_heads(heads, team) * Tile::kStateFloats;
    float* states = shared.states[place];
    const std::uint32_t full = ptx::shared_address(&shared.full[warp]);
    const std::uint32_t empty = ptx::shared_address(&shared.empty[warp]);
    const std::uint32_t full_there = ptx::cluster_address(full, first_block + owner);
    // The item before has been read; nobody leaves before it knows.
    if (l.part > 0 && l.number == part.first()) ptx::barrier_wait_cluster(empty, l.part - 1 & 1);
    if (has_head && l.number < part.end()) {
      head.merge_warps(shared, warp);
      const std::uint32_t there =
          ptx::cluster_address(ptx::shared_address(states), first_block + owner);
      int slot = l.number - part.prefix() + 1;
      if (part.rank() == 0) {
        const ClusterState state{there};
        if (l.number > 0) head.fold_onto(state);
        if (!last) {
          head.keep(state);
          return false;
        }
        slot = 0;
      }
      head.push(there + slot * step * 4, full_there);
    } else if (last && lane == 0) {
      ptx::store_async4(
          ptx::cluster_address(ptx::shared_address(&shared.nothing), first_block + owner),
          {0, 0, 0, 0}, full_there);
    }
    if (!last || owner != part.rank()) return false;
    const int first = part.prefix() > 0 ? 0 : 1;
    const int count = state_slots(part) - first;
    if (lane == 0) {
      const int without = ::max(0, team - leaves_of(part.length));
      ptx::barrier_expect(full,
                          has_head ? count * Tile::kStateFloats * 4 + without * 16 : team * 16);
    }
    ptx::barrier_wait_cluster(full, l.part & 1);
    if (has_head) head.fold_states(states + first * step, step, count);
    __syncwarp();
    if (part.more() && lane < team) {
      ptx::barrier_arrive_cluster(ptx::cluster_address(empty, first_block + lane));
    }
    return has_head;
  }

  __device__ void run() {
    const Part first_part = load_part(0);
    const Part second_part = load_part(1);  // if there is one
    const int thread = static_cast<int>(threadIdx.x);
    if (thread == 0) ptx::barrier_init(ptx::shared_address(&shared.ahead), Tile::kThreads);
    if (params.clusters) {
      if (thread < kTileHeads) {
        ptx::barrier_init(ptx::shared_address(&shared.full[thread]), 1);
        ptx::barrier_init(ptx::shared_address(&shared.empty[thread]), 1);
        ptx::barrier_init_fence();
      }
      __syncwarp();
      ptx::cluster_arrive();
    }
    if (first_part.row < 0) return;
    int stable = params.stable_length ? __ldg(params.stable_length + first_part.row) : 0;
    Leaf next = leaf(first_part, 0, first_part.first());
    Leaf now = next;  // before the first leaf there is one without tokens
    now.end = now.first;
    if (thread == 0) {
      kept(0) = first_part;
      kept(1) = second_part;
    }
    bool started = false;
    std::uint32_t slot = 0;
    Lookup<Map> lookup;
    std::int32_t ids = 0;  // of the leaf's second tile and those after it, one in each lane
    // Where the tile's K is. If the second one is to come early, the block's first one comes to
    // where results will be.
    constexpr bool kSecond = kAhead == DecodeAhead::second_tile;
    std::uint32_t k = kSecond ? ptx::shared_address(shared.results[warp]) : k_buffer;
    bool k_is_here = false;  // of the second tile
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
        const int head_bytes = last ? next.head_bytes : now.head_bytes;
        if (fetched < end) {
          const int t = ::min(fetched + lane % 16, end - 1);
          const int tile = (token - now.first) / Tile::kRound;  // of the leaf
          const bool known = kAhead == DecodeAhead::ids && !last && tile < 32;
          const std::int32_t loaded =
              known ? __shfl_sync(0xffffffffu, ids, tile)
                    : Lookup<Map>::load(params, map, last ? next.map_row : now.map_row, t);
          lookup = Lookup<Map>::of(params, map, t, loaded);
        }
        const bool works = token < now.end;
        float s[4] = {};
        std::uint32_t p[2];
        ptx::copies_wait<1>();  // K
        __syncwarp();
        if (works) this->scores(k, s);
        __syncwarp();
        if (kSecond && started) k = k_buffer;
        if (fetched < end) {
          slot = lookup.slot(map);
          if (!k_is_here) this->copy(params.k + head_bytes, k, slot, fetched, stable, end);
          k_is_here = false;
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
      if (kAhead == DecodeAhead::ids) {
        const int second = next.first + warp * Tile::kTokens + Tile::kRound;
        if (second < next.end) {
          ids = Lookup<Map>::load(params, map, next.map_row,
                                  ::min(second + lane * Tile::kRound, next.end - 1));
        }
      }
      Leaf after;
      if (!started) {
        __syncthreads();  // the first parts are there
        if (params.clusters) ptx::cluster_wait();
        const T* from = query(kept(0));
        after = following(next);
        if (kSecond) k_is_here = fetch_second(next, after, stable);
        ptx::wait_for_earlier_kernels();
        fetch_query(from, 0);
        this->copy_late(k, next.head_bytes, slot, next.first + warp * Tile::kTokens, stable,
                        next.end);
        stable = kNoLimit;
        ptx::copies_commit();
        ptx::copies_wait<0>();
      } else {
        __syncthreads();  // results of the leaf before have been read
        this->store_results(heads_of(kept(now.part)).count);
      }
      __syncthreads();
      if (started) {
        finish(now);
        if (next.part > now.part) {
          if (!kept(now.part).more()) return;
          wait_for_ahead(next.part);
        }
        after = following(next);
      }
      if (!started || next.part > now.part) this->read_q(shared.q[next.part % 2]);
      if (after.part > next.part && kept(next.part).more()) {
        fetch_ahead(after.part);
      }
      now = next;
      next = after;
      started = true;
    }
  }
};

template <class T, int kDim, class Map, DecodeAhead kAhead>
__global__ void __launch_bounds__(DecodeTile<kDim>::kThreads, DecodeTile<kDim>::kBlocks)
    decode_kernel(const __grid_constant__ DecodeParams params, const __grid_constant__ Map map) {
  extern __shared__ __align__(1024) unsigned char dynamic_shared[];
  ptx::let_next_kernel_start();
  DecodeBody<T, kDim, Map, kAhead>(
      params, map, *reinterpret_cast<typename DecodeTile<kDim>::Shared*>(dynamic_shared))
      .run();
  ptx::wait_for_earlier_kernels();  // also in blocks without work: completion must be transitive
}

}  // namespace kvstow::kernels::cuda
