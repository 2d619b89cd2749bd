// A draw from all tokens by temperature alone, in one pass over the logits. The masses of a piece
// of neighbouring tokens are relative to its own largest logit, in integers, so that no order of
// threads shows. Once the largest of all is known a piece weighs its sum * 2^(distance of the two),
// and the piece in which the target falls is read again.
#pragma once

#include "kernels/cuda/sampling_block.cuh"

namespace kvstow::kernels::cuda::sampling {

inline constexpr float kNoToken = -3e38f;  // the logit of what is past the vocabulary

// A probability (at most 1) in 2^-22, rounded: what the sum with 2^23 has in its last bits.
__device__ __forceinline__ std::uint32_t small_fixed(float log2) {
  return __float_as_uint(fmaf(ptx::exp2_fast(log2), 0x1p22f, 0x1p23f)) - 0x4b000000u;
}

template <class T>
class OnePass : public SamplingBlock<T> {
 public:
  using SamplingBlock<T>::SamplingBlock;

  struct Drawn {
    int token;      // -1 where a logit is not finite
    float logprob;  // at temperature 1
  };

  // `scale`: log2(e) / temperature.
  __device__ Drawn draw(float scale, std::uint64_t uniform) {
    const int pieces = (vocab_ + kPiece - 1) / kPiece;
    float top = -INFINITY;  // of the warp's pieces
    float sum = 0;          // of the lane's tokens at temperature 1, relative to it
    float zero = 0;         // NaN as soon as it has met something that is not finite
    Piece next;
    if (warp() < pieces) next.load(*this, warp());
    for (int piece = warp(); piece < pieces; piece += kWarps) {
      float x[kPieceVectors][8];
      next.to(x);
      if (piece + kWarps < pieces) next.load(*this, piece + kWarps);
      if ((piece + 1) * kPiece > vocab_) cut(piece, x);
      float most = -INFINITY;
      each(x, [&](float logit) { most = fmaxf(most, logit); });
      most = warp_max(most);
      const float shift = most * -kLog2E;
      std::uint32_t mass = 0;
      float at_one = 0;
      each(x, [&](float logit) {
        mass += small_fixed((logit - most) * scale);
        at_one += ptx::exp2_fast(fmaf(logit, kLog2E, shift));
        zero = fmaf(logit, 0.0f, zero);
      });
      mass = __reduce_add_sync(0xffffffffu, mass);
      if (lane() == 0) {
        s_.masses[piece] = mass;
        s_.tops[piece] = most;
      }
      const float both = fmaxf(top, most);
      sum = sum * ptx::exp2_fast((top - both) * kLog2E) +
            at_one * ptx::exp2_fast((most - both) * kLog2E);
      top = both;
    }
#pragma unroll
    for (int offset = 16; offset > 0; offset /= 2) sum += __shfl_xor_sync(0xffffffffu, sum, offset);
    if (lane() == 0) {
      s_.warp_tops[warp()] = top;
      s_.warp_sums[warp()] = sum;
    }
    if (__syncthreads_or(isnan(zero))) return {-1, NAN};
    float largest = -INFINITY;
    for (int w = 0; w < kWarps; ++w) largest = fmaxf(largest, s_.warp_tops[w]);
    float all = 0;
    for (int w = 0; w < kWarps; ++w) {
      all += s_.warp_sums[w] * ptx::exp2_fast((s_.warp_tops[w] - largest) * kLog2E);
    }
    const auto weight_of = [&](int piece) {
      const float part = ptx::exp2_fast((s_.tops[piece] - largest) * scale) * 0x1p20f;
      return static_cast<std::uint64_t>(static_cast<double>(s_.masses[piece]) * part);
    };
    const int t = static_cast<int>(threadIdx.x);
    const std::uint64_t weight = t < pieces ? weight_of(t) : 0;
    const std::uint64_t kept = sum_of_warps(warp_sum(weight));
    const std::uint64_t target = part_of(uniform, kept) + 1;
    search(weight, target, t);
    const auto piece = static_cast<int>(s_.found);
    const std::uint64_t before = s_.before;
    __syncthreads();
    if (warp() == 0) {
      const std::uint32_t whole = s_.masses[piece];
      const double place = static_cast<double>(target - before) *
                           (static_cast<double>(whole) / static_cast<double>(weight_of(piece)));
      find_in_piece(piece, scale, ::min(whole, static_cast<std::uint32_t>(ceil(place))));
    }
    __syncthreads();
    const auto token = static_cast<int>(s_.found);
    return {token, logit(token) - largest - logf(all)};
  }

 private:
  // The lane's tokens of a piece, on their way.
  struct Piece {
    Raw8<T> raw[kPieceVectors];

    __device__ void load(const OnePass& row, int piece) {
#pragma unroll
      for (int v = 0; v < kPieceVectors; ++v) {
        const int at = piece * kPiece + v * 256 + lane() * 8;
        if (at + 8 <= row.vocab_) raw[v].load(row.logits_ + at);
      }
    }
    __device__ void to(float (&x)[kPieceVectors][8]) const {
#pragma unroll
      for (int v = 0; v < kPieceVectors; ++v) raw[v].to(x[v]);
    }
  };

  // The last piece: tokens in vectors that are not whole, and 0 for what is past the vocabulary.
  __device__ void cut(int piece, float (&x)[kPieceVectors][8]) const {
#pragma unroll
    for (int v = 0; v < kPieceVectors; ++v) {
#pragma unroll
      for (int i = 0; i < 8; ++i) {
        const int token = piece * kPiece + v * 256 + lane() * 8 + i;
        x[v][i] = token < vocab_ ? logit(token) : kNoToken;
      }
    }
  }

  template <class Visit>
  __device__ static void each(const float (&x)[kPieceVectors][8], const Visit& visit) {
#pragma unroll
    for (int v = 0; v < kPieceVectors; ++v) {
#pragma unroll
      for (int i = 0; i < 8; ++i) visit(x[v][i]);
    }
  }

  // For one warp: leaves in found the piece's first token up to which the masses reach `target`.
  __device__ void find_in_piece(int piece, float scale, std::uint32_t target) {
    float x[kPieceVectors][8];
    Piece again;
    again.load(*this, piece);
    again.to(x);
    if ((piece + 1) * kPiece > vocab_) cut(piece, x);
    const float most = s_.tops[piece];
    std::uint32_t before = 0;
#pragma unroll
    for (int v = 0; v < kPieceVectors; ++v) {
      std::uint32_t own = 0;
#pragma unroll
      for (int i = 0; i < 8; ++i) own += small_fixed((x[v][i] - most) * scale);
      const auto inclusive = before + static_cast<std::uint32_t>(warp_inclusive(own));
      std::uint32_t running = inclusive - own;
      if (running < target && target <= inclusive) {
        const int first = piece * kPiece + v * 256 + lane() * 8;
#pragma unroll
        for (int i = 0; i < 8; ++i) {
          const std::uint32_t next = running + small_fixed((x[v][i] - most) * scale);
          if (running < target && target <= next) s_.found = static_cast<std::uint64_t>(first + i);
          running = next;
        }
      }
      before = __shfl_sync(0xffffffffu, inclusive, 31);
    }
  }

  __device__ static float warp_max(float x) {
#pragma unroll
    for (int offset = 16; offset > 0; offset /= 2) {
      x = fmaxf(x, __shfl_xor_sync(0xffffffffu, x, offset));
    }
    return x;
  }

  using SamplingBlock<T>::lane;
  using SamplingBlock<T>::logit;
  using SamplingBlock<T>::logits_;
  using SamplingBlock<T>::s_;
  using SamplingBlock<T>::search;
  using SamplingBlock<T>::sum_of_warps;
  using SamplingBlock<T>::vocab_;
  using SamplingBlock<T>::warp;
};

}  // namespace kvstow::kernels::cuda::sampling
