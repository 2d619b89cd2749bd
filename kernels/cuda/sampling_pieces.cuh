// One pass over the logits of a row, in pieces of neighbouring tokens: a warp has every kWarps-th
// piece, and its next one on the way while it works. What comes of a row does not depend on which
// other rows there are.
#pragma once

#include "kernels/cuda/sampling_block.cuh"

namespace kvstow::kernels::cuda::sampling {

inline constexpr float kNoToken = -3e38f;  // the logit of what is past the vocabulary

template <class T, int kBlockThreads>
class Pieces : public SamplingBlock<T, kBlockThreads> {
  using Block = SamplingBlock<T, kBlockThreads>;

 public:
  using Block::Block;
  using Block::kWarps;

  // The normaliser at temperature 1: sum of exp(logit - largest).
  struct Normaliser {
    bool finite;
    float largest;
    float sum;
  };

 protected:
  // The lane's tokens of a piece, on their way.
  struct Piece {
    Raw8<T> raw[kPieceVectors];

    __device__ void load(const Pieces& row, int piece) {
#pragma unroll
      for (int v = 0; v < kPieceVectors; ++v) {
        const int at = token_of(piece, v, 0);
        if (at + 8 <= row.vocab_) raw[v].load(row.logits_ + at);
      }
    }
    __device__ void to(const Pieces& row, int piece, float (&x)[kPieceVectors][8]) const {
#pragma unroll
      for (int v = 0; v < kPieceVectors; ++v) raw[v].to(x[v]);
      if ((piece + 1) * kPiece > row.vocab_) row.cut(piece, x);
    }
  };

  __device__ int pieces() const {
    return (vocab_ + kPiece - 1) / kPiece;
  }
  __device__ static int token_of(int piece, int vector, int i) {
    return piece * kPiece + vector * 256 + lane() * 8 + i;
  }

  // visit(logit) for the lane's tokens of a piece.
  template <class Visit>
  __device__ static void each(const float (&x)[kPieceVectors][8], const Visit& visit) {
#pragma unroll
    for (int v = 0; v < kPieceVectors; ++v) {
#pragma unroll
      for (int i = 0; i < 8; ++i) visit(x[v][i]);
    }
  }

  // visit(piece, logits, the largest of them) for each piece of the warp. Leaves the pieces'
  // largest logits in tops; synchronises.
  template <class Visit>
  __device__ Normaliser walk(const Visit& visit) {
    float top = -INFINITY;  // of the warp's pieces
    float sum = 0;          // of the lane's tokens at temperature 1, relative to it
    float zero = 0;         // NaN as soon as it has met something that is not finite
    Piece next;
    if (warp() < pieces()) next.load(*this, warp());
    for (int piece = warp(); piece < pieces(); piece += kWarps) {
      float x[kPieceVectors][8];
      next.to(*this, piece, x);
      if (piece + kWarps < pieces()) next.load(*this, piece + kWarps);
      float most = -INFINITY;
      each(x, [&](float logit) { most = fmaxf(most, logit); });
      most = warp_max(most);
      visit(piece, x, most);
      const float shift = most * -kLog2E;
      float at_one = 0;
      each(x, [&](float logit) {
        at_one += ptx::exp2_fast(fmaf(logit, kLog2E, shift));
        zero = fmaf(logit, 0.0f, zero);
      });
      if (lane() == 0) s_.tops[piece] = most;
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
    if (__syncthreads_or(isnan(zero))) return {false, NAN, NAN};
    float largest = -INFINITY;
    for (int w = 0; w < kWarps; ++w) largest = fmaxf(largest, s_.warp_tops[w]);
    float all = 0;
    for (int w = 0; w < kWarps; ++w) {
      all += s_.warp_sums[w] * ptx::exp2_fast((s_.warp_tops[w] - largest) * kLog2E);
    }
    return {true, largest, all};
  }

 private:
  // The last piece: tokens in vectors that are not whole, and kNoToken for what is past the
  // vocabulary.
  __device__ void cut(int piece, float (&x)[kPieceVectors][8]) const {
#pragma unroll
    for (int v = 0; v < kPieceVectors; ++v) {
#pragma unroll
      for (int i = 0; i < 8; ++i) {
        const int token = token_of(piece, v, i);
        x[v][i] = token < vocab_ ? logit(token) : kNoToken;
      }
    }
  }

  __device__ static float warp_max(float x) {
#pragma unroll
    for (int offset = 16; offset > 0; offset /= 2) {
      x = fmaxf(x, __shfl_xor_sync(0xffffffffu, x, offset));
    }
    return x;
  }

 protected:
  using Block::lane;
  using Block::logit;
  using Block::logits_;
  using Block::s_;
  using Block::vocab_;
  using Block::warp;
};

}  // namespace kvstow::kernels::cuda::sampling
