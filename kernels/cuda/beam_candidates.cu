// One block for each row, one pass over its logits for the normaliser and the largest logit of each
// piece of 512 neighbouring tokens. The best `count` tokens lie in the `count` pieces whose largest
// logits are the best (each of those has a token that comes before any token of another piece), so
// only they are read again, and of them what reaches the last one's largest logit is ranked: little
// more than `count` tokens, unless many tie or the best stand close together.
#include "kernels/cuda/beam_candidates.h"
#include "kernels/cuda/elements.cuh"
#include "kernels/cuda/launch.h"
#include "kernels/cuda/sampling_pieces.cuh"

namespace kvstow::kernels::cuda {
namespace {

using namespace sampling;

// Two blocks of a multiprocessor: one reads while the other ranks.
constexpr int kRowThreads = 512;

struct CandidatesShared : Shared {
  std::uint64_t list[kMostCandidates];
  int best_pieces[kMaxPieces];
  std::uint64_t least;
  int listed;
};

class Candidates : public Pieces<float, kRowThreads> {
 public:
  // A token's place in the order: unique, larger is better.
  using Key = std::uint64_t;

  __device__ Candidates(const BeamCandidatesArgs& a, CandidatesShared& s)
      : Pieces(a.logits, a.logits_stride, a.vocab, s), own_(s) {}

  __device__ double log_sum() {
    const Normaliser all = walk([](int, const float(&)[kPieceVectors][8], float) {});
    return all.finite ? double{all.largest} + double{logf(all.sum)} : NAN;
  }

  // visit(place, token, logit) for the best `count` tokens, in any order. REQUIRES: log_sum() was
  // the last call and is a number.
  template <class Visit>
  __device__ void best(int count, const Visit& visit) {
    choose_pieces(count);
    Key least = own_.least;
    if (list(least) > kMostCandidates) {
      least = fewer(count, least);
      list(least);
    }
    const int listed = own_.listed;
    for (int i = thread(); i < listed; i += kRowThreads) {
      const Key key = own_.list[i];
      int place = 0;
      for (int j = 0; j < listed; ++j) place += own_.list[j] > key;
      if (place >= count) continue;
      visit(place, static_cast<int>(~static_cast<std::uint32_t>(key)),
            logit_of(static_cast<std::uint32_t>(key >> 32)));
    }
  }

 private:
  __device__ static int thread() { return static_cast<int>(threadIdx.x); }
  __device__ static Key key(float logit, int token) {
    return Key{key_of(logit)} << 32 | ~static_cast<std::uint32_t>(token);
  }

  // The best `count` pieces, and a key that at least `count` of their tokens reach.
  __device__ void choose_pieces(int count) {
    if (thread() == 0) own_.least = 0;
    __syncthreads();
    kept_ = ::min(count, pieces());
    for (int piece = thread(); piece < pieces(); piece += kRowThreads) {
      const float top = own_.tops[piece];
      int place = 0;
      for (int p = 0; p < pieces(); ++p) {
        place += own_.tops[p] > top || (own_.tops[p] == top && p < piece);
      }
      if (place >= kept_) continue;
      own_.best_pieces[place] = piece;
      if (place == count - 1) own_.least = Key{key_of(top)} << 32;
    }
    __syncthreads();
  }

  // visit(key) for every token of those pieces.
  template <class Visit>
  __device__ void for_each(const Visit& visit) {
    for (int i = warp(); i < kept_; i += kWarps) {
      const int piece = own_.best_pieces[i];
      float x[kPieceVectors][8];
      Piece again;
      again.load(*this, piece);
      again.to(*this, piece, x);
#pragma unroll
      for (int v = 0; v < kPieceVectors; ++v) {
#pragma unroll
        for (int j = 0; j < 8; ++j) {
          const int token = token_of(piece, v, j);
          if (token < vocab_) visit(key(x[v][j], token));
        }
      }
    }
  }

  // Lists the keys from `least` on, as many as there is room for; how many there are.
  __device__ int list(Key least) {
    if (thread() == 0) own_.listed = 0;
    __syncthreads();
    for_each([&](Key key) {
      if (key < least) return;
      const int at = atomicAdd(&own_.listed, 1);
      if (at < kMostCandidates) own_.list[at] = key;
    });
    __syncthreads();
    return own_.listed;
  }

  // A key that at least `count` tokens reach, but no more than can be listed, where more than that
  // reach `low`. Keys are unique, so there is one.
  __device__ Key fewer(int count, Key low) {
    Key high = ~Key{0};  // fewer than `count` tokens reach it
    for (;;) {
      const Key middle = low + (high - low) / 2;
      std::uint64_t mine = 0;
      for_each([&](Key key) { mine += key >= middle; });
      const auto reach = static_cast<int>(sum_of_warps(warp_sum(mine)));
      if (reach >= count && reach <= kMostCandidates) return middle;
      (reach < count ? high : low) = middle;
    }
  }

  CandidatesShared& own_;
  int kept_ = 0;
};

__global__ void __launch_bounds__(kRowThreads, 2)
    beam_candidates_kernel(const BeamCandidatesArgs a) {
  __shared__ CandidatesShared shared;
  ptx::let_next_kernel_start();
  ptx::wait_for_earlier_kernels();
  const int count = a.row[blockIdx.x].candidates;
  if (count > 0) {
    Candidates candidates(a, shared);
    const double log_sum = candidates.log_sum();
    if (threadIdx.x == 0) a.log_sum[blockIdx.x] = log_sum;
    if (!isnan(log_sum)) {
      const std::int64_t first = std::int64_t{blockIdx.x} * a.stride;
      candidates.best(count, [&](int place, int token, float logit) {
        a.token[first + place] = token;
        a.logit[first + place] = logit;
      });
    }
  }
  if (a.ended && threadIdx.x == 0 && atomicAdd(a.rows_done, 1u) == gridDim.x - 1) {
    *a.rows_done = 0;
    *a.ended = ptx::nanoseconds();
  }
}

}  // namespace

void beam_candidates(const BeamCandidatesArgs& a, cudaStream_t stream, Dependent dependent) {
  constexpr const char* kName = "beam_candidates";
  require(a.vocab > 0 && a.vocab <= kMostTokens, kName, "vocabulary of more than 262144");
  require(a.logits_stride % 8 == 0, kName, "logits_stride is not a multiple of 8 elements");
  require(a.stride <= kMostCandidates, kName, "more than 1024 candidates");
  if (a.rows == 0) return;
  const LaunchShape shape{.grid = static_cast<unsigned>(a.rows),
                          .block = kRowThreads,
                          .dependent = dependent == Dependent::yes};
  launch(kName, beam_candidates_kernel, shape, stream, a);
}

}  // namespace kvstow::kernels::cuda
