#include "kernels/cuda/museum/museum.h"
#include "kernels/cuda/museum/museum_launch.h"
#include "kernels/cuda/museum/two_pass.cuh"

namespace kvstow::kernels::cuda::museum {
namespace {

template <int kThreads, int kDepth>
__global__ void __launch_bounds__(kThreads)
    faster_transformer_kernel(const DecodeAttentionArgs<AffineMap> a) {
  constexpr int kAtOnce = kThreads / kLanes;  // tokens
  extern __shared__ float logits[];
  const int head = static_cast<int>(blockIdx.x);
  const int row = static_cast<int>(blockIdx.y);
  const int group = static_cast<int>(threadIdx.x) / kLanes;
  const int length = a.length[row];
  const std::int64_t slot_stride = a.pool.layout.slot_stride();
  const std::int64_t begin = a.map.first[a.map_row[row]] * slot_stride;

  const Query q(a, row, head);
  const __half* keys = part_of(a, 0, head) + begin;
  float largest = -INFINITY;
  for (int first = 0; first < length; first += kDepth * kAtOnce) {
    float logit[kDepth];
    q.dot(logit, [&](int i) {
      const int t = first + i * kAtOnce + group;
      return t < length ? keys + t * slot_stride : nullptr;
    });
#pragma unroll
    for (int i = 0; i < kDepth; ++i) {
      const int t = first + i * kAtOnce + group;
      if (t >= length) continue;
      if (threadIdx.x % kLanes == 0) logits[t] = logit[i];
      largest = fmaxf(largest, logit[i]);
    }
  }
  __syncthreads();
  softmax<kThreads>(logits, length, largest);

  const __half* values = part_of(a, 1, head) + begin;
  ValueSum sum;
  for (int t = group; t < length; t += kAtOnce) sum.add(values + t * slot_stride, logits[t]);
  sum.write<kThreads>(a, row, head);
}

}  // namespace

void faster_transformer_decode(const DecodeAttentionArgs<AffineMap>& a, int max_length,
                               cudaStream_t stream) {
  constexpr const char* kName = "faster_transformer";
  if (max_length < 32) {
    launch_rows(kName, faster_transformer_kernel<64, 4>, 64, a, max_length, stream);
  } else if (max_length < 2048) {
    launch_rows(kName, faster_transformer_kernel<128, 8>, 128, a, max_length, stream);
  } else {
    launch_rows(kName, faster_transformer_kernel<256, 16>, 256, a, max_length, stream);
  }
}

}  // namespace kvstow::kernels::cuda::museum
