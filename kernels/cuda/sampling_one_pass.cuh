// A draw from all tokens by temperature alone, in one pass over the logits. The masses of a piece
// of neighbouring tokens are relative to its own largest logit, in integers, so that no order of
// threads shows. Once the largest of all is known a piece weighs its sum * 2^(distance of the two),
// and the piece in which the target falls is read again.
#pragma once

#include "kernels/cuda/sampling_pieces.cuh"

namespace kvstow::kernels::cuda::sampling {

// A probability (at most 1) in 2^-22, rounded: what the sum with 2^23 has in its last bits.
__device__ __forceinline__ std::uint32_t small_fixed(float log2) {
  return __float_as_uint(fmaf(ptx::exp2_fast(log2), 0x1p22f, 0x1p23f)) - 0x4b000000u;
}

template <class T>
class OnePass : public Pieces<T, kThreads> {
  using Row = Pieces<T, kThreads>;

 public:
  using Row::Row;

  struct Drawn {
    int token;      // -1 where a logit is not finite
    float logprob;  // at temperature 1
  };

  // `scale`: log2(e) / temperature.
  __device__ Drawn draw(float scale, std::uint64_t uniform) {
    const auto all = walk([&](int piece, const float(&x)[kPieceVectors][8], float most) {
      std::uint32_t mass = 0;
      each(x, [&](float logit) { mass += small_fixed((logit - most) * scale); });
      mass = __reduce_add_sync(0xffffffffu, mass);
      if (lane() == 0) s_.masses[piece] = mass;
    });
    if (!all.finite) return {-1, NAN};
    const auto weight_of = [&](int piece) {
      const float part = ptx::exp2_fast((s_.tops[piece] - all.largest) * scale) * 0x1p20f;
      return static_cast<std::uint64_t>(static_cast<double>(s_.masses[piece]) * part);
    };
    const int t = static_cast<int>(threadIdx.x);
    const std::uint64_t weight = t < pieces() ? weight_of(t) : 0;
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
    return {token, logit(token) - all.largest - logf(all.sum)};
  }

 private:
  // For one warp: leaves in found the piece's first token up to which the masses reach `target`.
  __device__ void find_in_piece(int piece, float scale, std::uint32_t target) {
    float x[kPieceVectors][8];
    typename Row::Piece again;
    again.load(*this, piece);
    again.to(*this, piece, x);
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
#pragma unroll
        for (int i = 0; i < 8; ++i) {
          const std::uint32_t next = running + small_fixed((x[v][i] - most) * scale);
          if (running < target && target <= next) {
            s_.found = static_cast<std::uint64_t>(token_of(piece, v, i));
          }
          running = next;
        }
      }
      before = __shfl_sync(0xffffffffu, inclusive, 31);
    }
  }

  using Row::each;
  using Row::lane;
  using Row::logit;
  using Row::pieces;
  using Row::s_;
  using Row::search;
  using Row::sum_of_warps;
  using Row::token_of;
  using Row::walk;
  using Row::warp;
};

}  // namespace kvstow::kernels::cuda::sampling
