#include <algorithm>

#include "bench/kernels_cuda/page_read.h"
#include "kernels/cuda/launch.h"

namespace kvstow::bench {
namespace {

using kernels::BlockTableMap;

constexpr int kWarps = 8;
constexpr int kTokens = 16;
constexpr int kRowBytes = 256;
constexpr int kLoads = kTokens / 2;  // of a lane: 16 lanes have a token

struct Work {
  const unsigned char* k;
  const unsigned char* v;
  std::int64_t slot_bytes;
  int heads;
  int pages;   // of a row
  int shares;  // of an item
};

__device__ __forceinline__ uint4 load(const unsigned char* p) {
  uint4 v;
  asm volatile("ld.global.nc.L1::no_allocate.L2::128B.v4.u32 {%0,%1,%2,%3}, [%4];"
               : "=r"(v.x), "=r"(v.y), "=r"(v.z), "=r"(v.w)
               : "l"(p));
  return v;
}

// `sink` is only written for a value that random data does not give, so that the loads cannot be
// dropped.
__global__ void __launch_bounds__(kWarps * 32, 2)
    read_page_by_page(Work w, BlockTableMap map, int units, unsigned* sink) {
  const int warp = static_cast<int>(threadIdx.x) / 32;
  const int lane = static_cast<int>(threadIdx.x) % 32;
  unsigned x = 0;
  for (int unit = static_cast<int>(blockIdx.x); unit < units; unit += static_cast<int>(gridDim.x)) {
    const int item = unit / w.shares;
    const int share = unit - item * w.shares;
    const int row = item / w.heads;
    const std::int32_t* ids = map.ids + row * map.stride;
    const std::int64_t in_page =
        (item - row * w.heads) * kRowBytes + lane / 16 * w.slot_bytes + lane % 16 * 16;
    const int end = w.pages * (share + 1) / w.shares;
    int page = w.pages * share / w.shares + warp;
    std::int64_t id = page < end ? __ldg(ids + page) : 0;
    for (; page < end; page += kWarps) {
      const std::int64_t at = id * kTokens * w.slot_bytes + in_page;
      if (page + kWarps < end) id = __ldg(ids + page + kWarps);
      uint4 k[kLoads];
      uint4 v[kLoads];
#pragma unroll
      for (int i = 0; i < kLoads; ++i) k[i] = load(w.k + at + 2 * i * w.slot_bytes);
#pragma unroll
      for (int i = 0; i < kLoads; ++i) v[i] = load(w.v + at + 2 * i * w.slot_bytes);
#pragma unroll
      for (int i = 0; i < kLoads; ++i) {
        x ^= k[i].x ^ k[i].y ^ k[i].z ^ k[i].w ^ v[i].x ^ v[i].y ^ v[i].z ^ v[i].w;
      }
    }
  }
  if (x == 0x9e3779b9u) *sink = x;
}

}  // namespace

void read_pages(const kernels::KvPool& pool, int layer, const BlockTableMap& map, int rows,
                int pages_per_row, unsigned* sink, int sms, cudaStream_t stream) {
  const kernels::KvLayout& layout = pool.layout;
  const auto* data = static_cast<const unsigned char*>(pool.data);
  const int items = rows * layout.kv_heads;
  const int room = 2 * sms;
  const int shares = std::clamp(room / items, 1, std::max(1, pages_per_row / kWarps));
  const Work work{data + layout.part_offset(layer, 0) * 2,
                  data + layout.part_offset(layer, 1) * 2,
                  layout.slot_stride() * 2,
                  layout.kv_heads,
                  pages_per_row,
                  shares};
  kernels::cuda::launch("page read", read_page_by_page,
                        {.grid = dim3(static_cast<unsigned>(std::min(room, items * shares))),
                         .block = dim3(kWarps * 32)},
                        stream, work, map, items * shares, sink);
}

}  // namespace kvstow::bench
