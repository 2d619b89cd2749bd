#include "kernels/cuda/museum/museum.h"
#include "kernels/cuda/museum/museum_launch.h"
#include "kernels/cuda/museum/two_pass.cuh"

namespace kvstow::kernels::cuda::museum {
namespace {

template <int kThreads, int kLanes>
__global__ void __launch_bounds__(kThreads)
    faster_transformer_kernel(const DecodeAttentionArgs<AffineMap> a) {
  extern __shared__ float logits[];
  const int head = static_cast<int>(blockIdx.x);
  const int row = static_cast<int>(blockIdx.y);
  const int thread = static_cast<int>(threadIdx.x);
  const int length = a.length[row];
  const std::int64_t first = a.map.first[a.map_row[row]];
  const std::int64_t slot_stride = a.pool.layout.slot_stride();

  const QueryPart<kLanes> q(
      static_cast<const __half*>(a.q) + row * a.q_stride + std::int64_t{head} * kHeadDim,
      thread % kLanes);
  const __half* keys = part_of(a, 0, head) + first * slot_stride;
  float largest = -INFINITY;
  constexpr int kKeysOfWarp = 32 / kLanes;  // whole warps stay together for the sums over lanes
  const int end = (length + kKeysOfWarp - 1) / kKeysOfWarp * kKeysOfWarp;
  for (int position = thread / kLanes; position < end; position += kThreads / kLanes) {
    const bool valid = position < length;
    const float logit = a.scale * q.dot(keys + position * slot_stride, thread % kLanes, valid);
    if (valid) {
      if (thread % kLanes == 0) logits[position] = logit;
      largest = fmaxf(largest, logit);
    }
  }
  __syncthreads();
  softmax<kThreads>(logits, length, largest);

  const __half* values = part_of(a, 1, head) + first * slot_stride;
  ValueSum sum;
  for (int position = thread / kValueLanes; position < length; position += kThreads / kValueLanes) {
    sum.add(values + position * slot_stride, thread % kValueLanes, logits[position]);
  }
  sum.write<kThreads>(static_cast<__half*>(a.out) + row * a.out_stride +
                      std::int64_t{head} * kHeadDim);
}

}  // namespace

void faster_transformer_decode(const DecodeAttentionArgs<AffineMap>& a, int max_length,
                               cudaStream_t stream) {
  constexpr const char* kName = "faster_transformer";
  if (max_length < 32) {
    launch_rows(kName, faster_transformer_kernel<64, 4>, 64, a, max_length, stream);
  } else if (max_length < 2048) {
    launch_rows(kName, faster_transformer_kernel<128, 2>, 128, a, max_length, stream);
  } else {
    launch_rows(kName, faster_transformer_kernel<256, 1>, 256, a, max_length, stream);
  }
}

}  // namespace kvstow::kernels::cuda::museum
