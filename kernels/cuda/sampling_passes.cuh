// Draws in several passes over the logits: top-k, top-p and greedy. Weights are integers in 2^-31
// of the likeliest token's.
#pragma once

#include "kernels/cuda/sampling_block.cuh"

namespace kvstow::kernels::cuda::sampling {

inline constexpr float kBinsPerUnit = 64;  // of logits below the largest one
inline constexpr float kOne = 0x1p31f;     // probability 1 (of the likeliest token) in fixed point

// A probability in fixed point.
__device__ __forceinline__ std::uint32_t fixed(float log2) {
  return __float2uint_rz(ptx::exp2_fast(log2) * kOne);
}

template <class T>
class Sampler : public SamplingBlock<T, kThreads> {
  using Block = SamplingBlock<T, kThreads>;

 public:
  using Block::Block;
  using Block::kWarps;

  // visit(token, logit) for every token.
  template <class Visit>
  __device__ void for_each(const Visit& visit) const {
    for (int c = warp(); c < chunks_; c += kWarps) visit_chunk(c, visit);
  }

  // The largest logit; NaN where one is not finite.
  __device__ float largest() {
    float most = -INFINITY;
    float zero = 0;  // NaN as soon as it has met something that is not finite
    for_each([&](int, float x) {
      most = fmaxf(most, x);
      zero = fmaf(x, 0.0f, zero);
    });
    const std::uint64_t key = isnan(zero) ? ~0ULL : key_of(most);
    const auto all = block_max(key);
    return all == ~0ULL ? NAN : logit_of(static_cast<std::uint32_t>(all));
  }

  // The smallest token with this logit.
  __device__ int first_with(float logit) {
    std::uint32_t last = 0;  // complement of the token, so that the largest wins
    for_each([&](int token, float x) {
      if (x == logit) last = ::max(last, ~static_cast<std::uint32_t>(token));
    });
    return static_cast<int>(~static_cast<std::uint32_t>(block_max(last)));
  }

  // The sum of weight(logit) over all tokens; the sums of chunks stay behind for find_token.
  template <class Weight>
  __device__ std::uint64_t sum(const Weight& weight) {
    std::uint64_t mine = 0;
    for (int c = warp(); c < chunks_; c += kWarps) {
      std::uint64_t chunk = 0;
      visit_chunk(c, [&](int, float x) { chunk += weight(x); });
      chunk = warp_sum(chunk);
      if (lane() == 0) s_.chunks[c] = chunk;
      mine += chunk;
    }
    return sum_of_warps(mine);
  }

  // The first token, in order of ids, up to which the weights reach `target` (1 .. their sum).
  // REQUIRES: sum(weight) was the last call.
  template <class Weight>
  __device__ int find_token(const Weight& weight, std::uint64_t target) {
    const int t = static_cast<int>(threadIdx.x);
    search(t < chunks_ ? s_.chunks[t] : 0, target, t);
    const auto chunk = static_cast<int>(s_.found);
    std::uint64_t before = s_.before;
    __syncthreads();
    if (warp() == 0) {
#pragma unroll 1
      for (int v = 0; v < kVectors; ++v) {
        const int at = chunk * kChunk + v * 256 + lane() * 8;
        std::uint64_t own = 0;
        visit_vector(at, [&](int, float x) { own += weight(x); });
        const std::uint64_t inclusive = before + warp_inclusive(own);
        std::uint64_t running = inclusive - own;
        if (running < target && target <= inclusive) {
          visit_vector(at, [&](int token, float x) {
            const std::uint64_t next = running + weight(x);
            if (running < target && target <= next) s_.found = static_cast<std::uint64_t>(token);
            running = next;
          });
        }
        before = __shfl_sync(0xffffffffu, inclusive, 31);
      }
    }
    __syncthreads();
    return static_cast<int>(s_.found);
  }

  // A place in the order of likelihood: among the tokens with this logit, the one at which `rest`
  // is reached.
  struct Place {
    float logit;
    std::uint64_t rest;
  };

  // The first token, in order of likelihood, up to which the weights reach `target` (1 .. their
  // sum). By the weights of bins: first of the distance to the largest logit, where tokens spread
  // well, then within one of those of the digits of the key.
  template <class Weight>
  __device__ Place select(const Weight& weight, float largest, std::uint64_t target) {
    const auto bin_of = [&](float x) {
      return static_cast<int>(fminf((largest - x) * kBinsPerUnit, kBins - 1.0f));
    };
    const int bin = select_bin(target, [&](float x, int& place) {
      place = bin_of(x);
      return weight(x);
    });
    std::uint32_t known = 0;  // the digits found so far
    int shift = 32;
#pragma unroll 1
    for (int digit = 0; digit < 3; ++digit) {
      const std::uint32_t mask = digit == 0 ? 0 : ~0u << shift;
      const std::uint32_t digits = digit < 2 ? (1u << 11) - 1 : (1u << 10) - 1;
      shift = digit < 2 ? shift - 11 : 0;
      const int place = select_bin(target, [&](float x, int& to) -> std::uint64_t {
        const std::uint32_t key = key_of(x);
        if ((key & mask) != known || bin_of(x) != bin) return 0;
        to = static_cast<int>(digits - (key >> shift & digits));
        return weight(x);
      });
      known |= (digits - static_cast<std::uint32_t>(place)) << shift;
    }
    return {logit_of(known), target};
  }

 private:
  template <class Visit>
  __device__ void visit_vector(int at, const Visit& visit) const {
    if (at + 8 <= vocab_) {
      float x[8];
      load8(logits_ + at, x);
#pragma unroll
      for (int i = 0; i < 8; ++i) visit(at + i, x[i]);
    } else {
      for (int token = at; token < vocab_; ++token) visit(token, to_float(logits_[token]));
    }
  }

  // Several loads are in flight before the first visit.
  template <class Visit>
  __device__ void visit_chunk(int chunk, const Visit& visit) const {
    constexpr int kInFlight = sizeof(T) == 2 ? kVectors : kVectors / 2;
    const int at = chunk * kChunk + lane() * 8;
    if ((chunk + 1) * kChunk > vocab_) {
#pragma unroll 1
      for (int v = 0; v < kVectors; ++v) visit_vector(at + v * 256, visit);
      return;
    }
#pragma unroll 1
    for (int first = 0; first < kVectors; first += kInFlight) {
      uint4 raw[kInFlight][sizeof(T) / 2];
#pragma unroll
      for (int v = 0; v < kInFlight; ++v) {
        const auto* from = reinterpret_cast<const uint4*>(logits_ + at + (first + v) * 256);
#pragma unroll
        for (std::size_t i = 0; i < sizeof(T) / 2; ++i) raw[v][i] = from[i];
      }
#pragma unroll
      for (int v = 0; v < kInFlight; ++v) {
        const T* x = reinterpret_cast<const T*>(raw[v]);
#pragma unroll
        for (int i = 0; i < 8; ++i) visit(at + (first + v) * 256 + i, to_float(x[i]));
      }
    }
  }

  __device__ std::uint64_t weight_of_bin(int b) const {
    return s_.bins[0][b] + (std::uint64_t{s_.bins[1][b]} << 14) +
           (std::uint64_t{s_.bins[2][b]} << 28);
  }

  // The bin in which the running sum over bins reaches `target`, which becomes what is left of it
  // there. contribution(logit, bin&) gives a token's weight (at most 2^31) and, unless that is 0,
  // its bin.
  template <class Contribution>
  __device__ int select_bin(std::uint64_t& target, const Contribution& contribution) {
    for (int b = static_cast<int>(threadIdx.x); b < 3 * kBins; b += kThreads)
      (&s_.bins[0][0])[b] = 0;
    __syncthreads();
    for_each([&](int, float x) {
      int bin = 0;
      const auto w = static_cast<std::uint32_t>(contribution(x, bin));
      const std::uint32_t parts[3] = {w & 0x3fff, w >> 14 & 0x3fff, w >> 28};
#pragma unroll
      for (int i = 0; i < 3; ++i) {
        if (parts[i] > 0) atomicAdd(&s_.bins[i][bin], parts[i]);
      }
    });
    __syncthreads();
    const int first = 2 * static_cast<int>(threadIdx.x);
    search(weight_of_bin(first) + weight_of_bin(first + 1), target, first);
    int bin = static_cast<int>(s_.found);
    target -= s_.before;
    if (target > weight_of_bin(bin)) target -= weight_of_bin(bin++);
    __syncthreads();
    return bin;
  }

  using Block::block_max;
  using Block::lane;
  using Block::logits_;
  using Block::s_;
  using Block::search;
  using Block::sum_of_warps;
  using Block::to_float;
  using Block::vocab_;
  using Block::warp;

  int chunks_ = (vocab_ + kChunk - 1) / kChunk;
};

}  // namespace kvstow::kernels::cuda::sampling
