// What all of decode attention shares: parameters, the shape of a body, its shared memory, and
// the way from a token to its slot.
#pragma once

#include "kernels/cuda/decode_plan.h"
#include "kernels/cuda/ptx.cuh"

namespace kvstow::kernels::cuda {

struct DecodeParams {
  const unsigned char* k;  // of this layer
  const unsigned char* v;
  std::uint32_t slot_bytes;  // from one slot to the next
  const void* q;
  std::int64_t q_stride;
  void* out;
  std::int64_t out_stride;
  const std::int32_t* stable_length;
  const Part* list;  // this block's parts: list[blockIdx.x], list[blockIdx.x + gridDim.x], ...
  bool clusters;     // blocks may share items
  float scale_log2;  // scale * log2(e)
  DecodeTiling tiling;
  Divider by_tiles_per_kv_head;
  Divider by_block_tokens;  // of a block table
  bool tiles_are_runs;      // 16 tokens from a multiple of 16 on lie in neighbouring slots
};

// The query heads of a tile.
struct TileHeads {
  int first;
  int count;

  __device__ TileHeads(const DecodeTiling& tiling, int tile, int kv_head) {
    const int in_group = (tile - kv_head * tiling.tiles_per_kv_head) * kTileHeads;
    first = kv_head * tiling.group + in_group;
    count = ::min(kTileHeads, tiling.group - in_group);
  }
};

// Compile-time shape of a body: eight warps, each with a K and a V tile of 16 tokens in flight, so
// that a block takes 128 tokens, one chunk, at a time.
template <int kDim>
struct DecodeTile {
  static constexpr int kWarps = 8;
  static constexpr int kThreads = kWarps * 32;
  static constexpr int kBlocks = blocks_per_multiprocessor(kDim);
  static constexpr int kTokens = 16;  // of a warp's tile
  static constexpr int kRound = kWarps * kTokens;
  static_assert(kRound == kAttentionChunk);
  static constexpr int kVectors = kDim / 8;  // 16-byte vectors of a row
  static constexpr int kPitch = (kDim * 2 + 127) / 128 * 128;
  static constexpr int kQueryPitch = kDim * 2 + 16;  // an odd number of vectors: no bank conflicts
  static constexpr int kTileBytes = kTokens * kPitch;
  static constexpr int kCopies = kTokens * kVectors / 32;  // 16-byte copies of a lane
  static constexpr int kSteps = kDim / 16;                 // k-steps of S; 16-row tiles of O^T
  static constexpr int kQuads = kDim / 4;                  // float4s of a result
  static constexpr int kLaneQuads = (kQuads + 31) / 32;

  // Where a vector of a tile lies. Rows begin at lines of 128 bytes, which copies then fill whole
  // (with rows 16 bytes longer a chain of reads was 5 % slower); a row's vectors change places so
  // that the same vector of eight rows is in eight groups of banks.
  static __device__ constexpr int place(int row, int vector) {
    return row * kPitch + (vector ^ row % 8) * 16;
  }

  // From vector v < 2 of a row to vector v + 2 pair: what place() does, as one address.
  static __device__ constexpr std::uint32_t pair_of(std::uint32_t address, int pair) {
    return (address ^ (pair % 4 * 32)) + pair / 4 * 128;
  }

  // Before a block's first results come, a warp's place for them can hold another tile.
  static constexpr bool kResultsHoldTile =
      kTileHeads * (kDim + 4) * 4 >= kTileBytes && kTileHeads * (kDim + 4) * 4 % 128 == 0;

  static constexpr int kStateFloats = kDim + 4;  // accumulators, maximum and sum; 16-byte aligned

  struct alignas(1024) Shared {
    unsigned char kv[kWarps][2][kTileBytes];
    // Of each warp's tokens. Rows of kDim + 4 floats: no bank conflicts when lanes store columns.
    float results[kWarps][kTileHeads][kDim + 4];
    float2 scalars[kWarps][kTileHeads];  // maximum, sum
    float states[kMaxStates][kStateFloats];
    alignas(16) unsigned char q[2][kTileHeads * kQueryPitch];  // of even and odd parts
    Part parts[4];
    float4 nothing;                   // of blocks without leaves
    std::uint64_t ahead;              // what was fetched for the next part is here
    std::uint64_t full[kTileHeads];   // a head's states are here
    std::uint64_t empty[kTileHeads];  // they have been read, in all blocks of the team

    static constexpr std::size_t kBytes =
        sizeof(kv) + sizeof(results) + sizeof(scalars) + sizeof(states) + sizeof(q) +
        sizeof(parts) + sizeof(nothing) + sizeof(ahead) + sizeof(full) + sizeof(empty);
  };
  static_assert(sizeof(Shared) == (Shared::kBytes + 1023) / 1024 * 1024);  // no gaps
};

// The slot of one token, in two goes: what has to be loaded, and what needs its result.
template <class Map>
struct Lookup;

template <>
struct Lookup<AffineMap> {
  std::int32_t first;
  std::int32_t token;

  static __device__ std::int32_t load(const DecodeParams&, const AffineMap& map, std::int32_t row,
                                      int) {
    return static_cast<std::int32_t>(__ldg(map.first + row));
  }
  static __device__ Lookup of(const DecodeParams&, const AffineMap&, int t, std::int32_t loaded) {
    return {loaded, t};
  }
  __device__ std::uint32_t slot(const AffineMap&) const {
    return static_cast<std::uint32_t>(first + token);
  }
};

template <>
struct Lookup<BlockTableMap> {
  std::int32_t id;
  std::uint32_t within;

  static __device__ std::int32_t load(const DecodeParams& params, const BlockTableMap& map,
                                      std::int32_t row, int t) {
    return __ldg(map.ids + row * map.stride + params.by_block_tokens.quotient(t));
  }
  static __device__ Lookup of(const DecodeParams& params, const BlockTableMap& map, int t,
                              std::int32_t loaded) {
    return {loaded, t - params.by_block_tokens.quotient(t) * map.block_tokens};
  }
  __device__ std::uint32_t slot(const BlockTableMap& map) const {
    return id * map.block_tokens + within;
  }
};

}  // namespace kvstow::kernels::cuda
