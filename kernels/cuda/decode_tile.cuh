// What producers and consumers of decode attention share: parameters, the shape of a body, shared
// memory.
#pragma once

#include "kernels/cuda/decode_plan.h"
#include "kernels/cuda/ptx.cuh"

namespace kvstow::kernels::cuda {

struct DecodeParams {
  const void* k;  // of this layer
  const void* v;
  std::uint32_t slot_bytes;  // from one slot to the next
  const void* q;
  std::int64_t q_stride;
  void* out;
  std::int64_t out_stride;
  const std::int32_t* map_row;
  const std::int32_t* length;
  const std::int32_t* stable_length;
  const PlanEntry* plan;
  unsigned* flags;
  float* states;
  float* partials;
  std::int64_t partials_stride;  // floats from block to block
  float scale_log2;              // scale * log2(e)
  std::int64_t result_floats;    // of one state or partial result
  DecodeTiling tiling;

  __device__ float* state(int block) const { return states + block * result_floats; }
  __device__ float* partial(int block, int index) const {
    return partials + block * partials_stride + index * result_floats;
  }
  __device__ unsigned* state_flag(int block) const { return flags + 2 * block; }
  __device__ unsigned* partials_flag(int block) const { return flags + 2 * block + 1; }
};

// Compile-time shape of a body. kDim: head_dim; kN: query heads of a tile, padded to 8 or 16.
template <int kDim, int kN>
struct DecodeTile {
  static constexpr int kGroupWarps = 4;  // of each of the two consumer groups
  static constexpr int kGroup = kGroupWarps * 32;
  static constexpr int kProducerWarps = 4;
  static constexpr int kConsumers = 2 * kGroup;
  static constexpr int kProducers = kProducerWarps * 32;
  static constexpr int kThreads = kConsumers + kProducers + 32;  // and the scheduler
  // Registers: 65536 for two blocks are 72 a thread; producers give 32 of theirs to the value
  // group.
  static constexpr bool kTwoBlocks = kDim <= 128 && kN == 8;
  static constexpr int kValueRegisters = kTwoBlocks ? 104 : 168;
  static constexpr int kProducerRegisters = kTwoBlocks ? 40 : 72;
  static constexpr int kScoreBarrier = 1;  // named barriers
  static constexpr int kValueBarrier = 2;
  static constexpr int kChunk = kAttentionChunk;
  static constexpr int kStageTokens = 64;
  static constexpr int kVectors = kDim / 8;     // 16-byte vectors of a row
  static constexpr int kPitch = kDim * 2 + 16;  // an odd number of them: no bank conflicts
  static constexpr int kStageBytes = kStageTokens * kPitch;
  // Two blocks' rings share a multiprocessor (programmatic dependent launch): about 104 KB each.
  static constexpr int kStages = kDim >= 128 ? 6 : kDim == 96 ? 7 : kDim == 80 ? 8 : 10;
  // A barrier tells even uses of a stage from odd ones. The score group waits for both K stages of
  // the next chunk when it has seen those of this one, so the use before must not be later ones.
  static_assert(kStages >= 4);
  static constexpr int kWorkSlots = 4;  // chunks the scheduler is ahead of the slowest consumer
  static constexpr int kQuerySlots = (kStages + 1 + 3) / 4;  // items whose S may be pending
  static constexpr int kMergeParts = 256;                    // partial results folded in one go
  static constexpr int kMergeBlocks = 256;  // over which an item that is merged may be spread
  static constexpr int kProbabilityPitch = kChunk * 2;  // vectors swizzled by head, see below
  static constexpr int kSteps = kDim / 16;              // k-steps of S; 16-row tiles of O^T
  static constexpr int kTilesPerWarp = (kSteps + kGroupWarps - 1) / kGroupWarps;

  // One chunk, as the scheduler tells it to everyone.
  struct alignas(16) Work {
    std::int32_t row;
    std::int32_t tile;
    std::int32_t tokens;      // valid ones; 0 in a row of length 0
    std::int32_t flags;       // below, and q slot << 8
    std::int32_t head_bytes;  // from a slot's first head to the one read
    std::int32_t stable;      // valid tokens written before this step
  };
  static constexpr std::int32_t kKindMask = 3;  // PieceKind
  static constexpr std::int32_t kPieceStarts = 4;
  static constexpr std::int32_t kPieceEnds = 8;
  static constexpr std::int32_t kRunEnds = 16;

  struct alignas(16) Shared {
    union {
      unsigned char ring[kStages][kStageBytes];
      struct {                            // after the last chunk, where an item is merged
        float4 factors[kN][kMergeParts];  // of what is there, of what is added; its sum scaled
        std::int32_t parts[kMergeParts];
        std::int32_t starts[kMergeBlocks + 1];  // chunk at which each block's run starts
        float maxima[kN];
        alignas(16) float4 values[kN * kDim / 4];
        float sums[kN * kDim / 4];
      } merge;
    };
    unsigned char q[kQuerySlots][kN * kPitch];
    unsigned char p[2][kN * kProbabilityPitch];    // of two chunks: [head][token]
    alignas(16) float maxima[2][kN][kGroupWarps];  // of each score warp's tokens
    Work work[kWorkSlots];
    alignas(16) std::int32_t slots[kWorkSlots][kChunk];
    std::uint64_t work_full[kWorkSlots];
    std::uint64_t work_empty[kWorkSlots];
    std::uint64_t p_full[2];
    std::uint64_t p_empty[2];
    std::uint64_t full[kStages];
    std::uint64_t empty[kStages];
  };
};

// Of the scaled scores of one head, from the score warps' maxima.
__device__ __forceinline__ float chunk_maximum(const DecodeParams& params,
                                               const float (&maxima)[4]) {
  const float4 m = *reinterpret_cast<const float4*>(maxima);
  return __fmul_rn(fmaxf(fmaxf(m.x, m.y), fmaxf(m.z, m.w)), params.scale_log2);
}

// The 16-byte vector of 8 tokens' probabilities lies at place (vector ^ head % 8) of its row: eight
// rows' vectors are then in eight different groups of banks.
__device__ __forceinline__ constexpr int probability_offset(int head, int token) {
  return head * kAttentionChunk * 2 + ((token / 8) ^ (head % 8)) * 16 + token % 8 * 2;
}

// A place in the ring and the parity of its current use.
template <int kStages>
struct RingPlace {
  int slot = 0;
  std::uint32_t phase = 0;
  __device__ RingPlace after(int stages) const {
    RingPlace p{slot + stages, phase};
    while (p.slot >= kStages) {
      p.slot -= kStages;
      p.phase ^= 1;
    }
    return p;
  }
};

}  // namespace kvstow::kernels::cuda
