#include <algorithm>

#include "bench/kernels_cuda/page_read.h"
#include "kernels/cuda/launch.h"
#include "kernels/cuda/ptx.cuh"

namespace kvstow::bench {
namespace {

namespace ptx = kernels::cuda::ptx;
using kernels::BlockTableMap;

constexpr int kWarps = 8;
constexpr int kTokens = 16;
constexpr int kRowBytes = 256;
constexpr int kTileBytes = kTokens * kRowBytes;
constexpr int kCopies = kTokens / 2;  // of a lane: 16 lanes have a token
constexpr int kSharedBytes = kWarps * 2 * kTileBytes;

struct Work {
  const unsigned char* k;
  const unsigned char* v;
  std::int64_t slot_bytes;
  int heads;
  int pages;   // of a row
  int shares;  // of an item
};

// 16 tokens of one head.
__device__ void copy(const unsigned char* from, std::uint32_t to, std::int64_t slot_bytes) {
#pragma unroll
  for (int i = 0; i < kCopies; ++i) {
    ptx::copy16_async(to + i * 2 * kRowBytes, from + i * 2 * slot_bytes);
  }
  ptx::copies_commit();
}

__global__ void __launch_bounds__(kWarps * 32, 2)
    read_page_by_page(Work w, BlockTableMap map, int units) {
  extern __shared__ __align__(16) unsigned char tiles[];
  const int warp = static_cast<int>(threadIdx.x) / 32;
  const int lane = static_cast<int>(threadIdx.x) % 32;
  const std::uint32_t to = ptx::shared_address(tiles) + warp * 2 * kTileBytes + lane * 16;
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
      ptx::copies_wait<1>();  // K of the page before
      copy(w.k + at, to, w.slot_bytes);
      ptx::copies_wait<1>();  // its V
      copy(w.v + at, to + kTileBytes, w.slot_bytes);
    }
  }
  ptx::copies_wait<0>();
}

}  // namespace

void read_pages(const kernels::KvPool& pool, int layer, const BlockTableMap& map, int rows,
                int pages_per_row, int sms, cudaStream_t stream) {
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
  static const bool prepared = [] {
    KVSTOW_CUDA(cudaFuncSetAttribute(read_page_by_page, cudaFuncAttributeMaxDynamicSharedMemorySize,
                                     kSharedBytes));
    return true;
  }();
  static_cast<void>(prepared);
  kernels::cuda::launch("page read", read_page_by_page,
                        {.grid = dim3(static_cast<unsigned>(std::min(room, items * shares))),
                         .block = dim3(kWarps * 32),
                         .shared_bytes = kSharedBytes},
                        stream, work, map, items * shares);
}

}  // namespace kvstow::bench
