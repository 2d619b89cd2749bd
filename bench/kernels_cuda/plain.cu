#include <algorithm>
#include <stdexcept>

#include "bench/kernels_cuda/plain.h"
#include "kernels/cuda/launch.h"
#include "kernels/cuda/ptx.cuh"

namespace kvstow::bench {
namespace {

namespace cuda = kvstow::kernels::cuda;

__device__ __forceinline__ uint4 load_streaming(const uint4* p) {
  uint4 v;
  asm volatile("ld.global.nc.L1::no_allocate.v4.u32 {%0,%1,%2,%3}, [%4];"
               : "=r"(v.x), "=r"(v.y), "=r"(v.z), "=r"(v.w)
               : "l"(p));
  return v;
}

__device__ __forceinline__ unsigned fold(uint4 v) {
  return v.x ^ v.y ^ v.z ^ v.w;
}

// Each block reads tiles of kUnroll * kThreads vectors, strided over the grid until the end.
// Indices of 32 bits: with 64 a launch takes 0.05 to 0.1 us longer. `sink` is only written for a
// value that random data does not give, so that the loads cannot be dropped.
template <int kThreads, int kUnroll>
__global__ void __launch_bounds__(kThreads)
    read_strided(const uint4* __restrict__ data, unsigned vectors, unsigned* sink) {
  unsigned x = 0;
  const unsigned step = gridDim.x * (kThreads * kUnroll);
  for (unsigned at = blockIdx.x * (kThreads * kUnroll) + threadIdx.x; at < vectors; at += step) {
    uint4 v[kUnroll];
#pragma unroll
    for (int i = 0; i < kUnroll; ++i) {
      const unsigned index = at + i * kThreads;
      v[i] = index < vectors ? load_streaming(data + index) : uint4{0, 0, 0, 0};
    }
#pragma unroll
    for (int i = 0; i < kUnroll; ++i) x ^= fold(v[i]);
  }
  if (x == 0x9e3779b9u) *sink = x;
}

// kBlocksPerSm of 0: a block for each tile.
template <int kThreads, int kUnroll, int kBlocksPerSm>
void launch_read(const void* data, std::size_t bytes, unsigned* sink, int sms,
                 cudaStream_t stream) {
  constexpr std::size_t kTile = std::size_t{kThreads} * kUnroll;
  constexpr std::size_t kStep = std::size_t{1} << 30;  // no index overflows
  const std::size_t vectors = bytes / 16;
  if (vectors > 3 * kStep) throw std::invalid_argument("plain read: more than 48 GiB");
  const std::size_t room = kBlocksPerSm > 0 ? std::size_t(sms) * kBlocksPerSm : kStep / kTile;
  const std::size_t blocks = std::min((vectors + kTile - 1) / kTile, room);
  cuda::launch("plain read", read_strided<kThreads, kUnroll>,
               {.grid = dim3(unsigned(blocks)), .block = dim3(kThreads)}, stream,
               static_cast<const uint4*>(data), static_cast<unsigned>(vectors), sink);
}

__global__ void __launch_bounds__(256)
    copy_strided(uint4* __restrict__ to, const uint4* __restrict__ from, std::size_t vectors) {
  constexpr int kUnroll = 4;
  const std::size_t tile = std::size_t{256} * kUnroll;
  for (std::size_t at = blockIdx.x * tile; at < vectors; at += gridDim.x * tile) {
    uint4 v[kUnroll];
#pragma unroll
    for (int i = 0; i < kUnroll; ++i) {
      const std::size_t index = at + i * 256 + threadIdx.x;
      if (index < vectors) v[i] = load_streaming(from + index);
    }
#pragma unroll
    for (int i = 0; i < kUnroll; ++i) {
      const std::size_t index = at + i * 256 + threadIdx.x;
      if (index < vectors) to[index] = v[i];
    }
  }
}

__global__ void nothing() {
  cuda::ptx::let_next_kernel_start();
  cuda::ptx::wait_for_earlier_kernels();
}

}  // namespace

const std::vector<PlainRead>& plain_reads() {
  static const std::vector<PlainRead> reads = {
      {"256x4", launch_read<256, 4, 0>},      {"256x8", launch_read<256, 8, 0>},
      {"512x4", launch_read<512, 4, 0>},      {"512x8", launch_read<512, 8, 0>},
      {"1024x4", launch_read<1024, 4, 0>},    {"256x2", launch_read<256, 2, 0>},
      {"128x8", launch_read<128, 8, 0>},      {"512x8 by 2", launch_read<512, 8, 2>},
      {"512x8 by 4", launch_read<512, 8, 4>}, {"1024x4 by 2", launch_read<1024, 4, 2>},
      {"256x8 by 8", launch_read<256, 8, 8>}, {"1024x8 by 1", launch_read<1024, 8, 1>},
      {"128x2", launch_read<128, 2, 0>},      {"128x4", launch_read<128, 4, 0>},
      {"512x1", launch_read<512, 1, 0>},      {"512x2", launch_read<512, 2, 0>},
      {"64x4", launch_read<64, 4, 0>},        {"256x1", launch_read<256, 1, 0>},
      {"1024x2", launch_read<1024, 2, 0>},
  };
  return reads;
}

void plain_copy(void* to, const void* from, std::size_t bytes, int sms, cudaStream_t stream) {
  const std::size_t vectors = bytes / 16;
  const std::size_t blocks = std::min<std::size_t>((vectors + 1023) / 1024, std::size_t(sms) * 16);
  cuda::launch("plain copy", copy_strided, {.grid = dim3(unsigned(blocks)), .block = dim3(256)},
               stream, static_cast<uint4*>(to), static_cast<const uint4*>(from), vectors);
}

void empty_launch(int blocks, bool dependent, cudaStream_t stream) {
  cuda::launch("empty", nothing,
               {.grid = dim3(unsigned(blocks)), .block = dim3(32), .dependent = dependent}, stream);
}

}  // namespace kvstow::bench
