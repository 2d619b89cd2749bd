#include <stdexcept>
#include <string>
#include <type_traits>

#include "kernels/cuda/decode_attention.cuh"

namespace kvstow::kernels::cuda {
namespace {

constexpr int kPlanThreads = 1024;

template <class Combine>
__device__ std::int64_t block_reduce(std::int64_t x, std::int64_t (&parts)[kPlanThreads / 32],
                                     const Combine& combine) {
  for (int offset = 16; offset > 0; offset /= 2) {
    x = combine(x, __shfl_xor_sync(0xffffffffu, x, offset));
  }
  __syncthreads();
  if (threadIdx.x % 32 == 0) parts[threadIdx.x / 32] = x;
  __syncthreads();
  x = parts[0];
  for (int w = 1; w < kPlanThreads / 32; ++w) x = combine(x, parts[w]);
  return x;
}

// One block: leaves or whole rows, where each row's units begin in the list, and the list.
__global__ void __launch_bounds__(kPlanThreads)
    plan_kernel(const std::int32_t* length, int rows, int tiles, int blocks, std::int32_t* count,
                Unit* list) {
  __shared__ std::int64_t parts[kPlanThreads / 32];
  const int thread = static_cast<int>(threadIdx.x);
  const int lane = thread % 32;
  const int warp = thread / 32;
  ptx::wait_for_earlier_kernels();
  ptx::let_next_kernel_start();
  std::int64_t all = 0;
  std::int64_t fullest = 0;
  for (int block = thread; block < blocks; block += kPlanThreads) {
    const std::int64_t tokens = tokens_of_block(length, rows, tiles, block, blocks);
    all += tokens;
    fullest = tokens > fullest ? tokens : fullest;
  }
  all = block_reduce(all, parts, [](std::int64_t a, std::int64_t b) { return a + b; });
  fullest =
      block_reduce(fullest, parts, [](std::int64_t a, std::int64_t b) { return a > b ? a : b; });
  const bool whole = deal_whole_rows(fullest, all, blocks);
  __syncthreads();
  std::int32_t before = 0;
  for (int first = 0; first < rows; first += kPlanThreads) {
    const int row = first + thread;
    const std::int32_t tokens = row < rows ? length[row] : 0;
    const std::int32_t leaves = leaves_of(tokens);
    const std::int32_t units = row >= rows ? 0 : whole ? 1 : leaves;
    std::int32_t sum = units;  // inclusive, within the warp
    for (int offset = 1; offset < 32; offset *= 2) {
      const std::int32_t other = __shfl_up_sync(0xffffffffu, sum, offset);
      if (lane >= offset) sum += other;
    }
    if (lane == 31) parts[warp] = sum;
    __syncthreads();
    std::int32_t begin = before + sum - units;
    for (int w = 0; w < kPlanThreads / 32; ++w) {
      const auto part = static_cast<std::int32_t>(parts[w]);
      if (w < warp) begin += part;
      before += part;
    }
    for (int i = 0; i < units; ++i) {
      list[begin + i] = unit_of(row, tokens, i, whole ? leaves : 1);
    }
    __syncthreads();
  }
  if (thread == 0) *count = before;
}

template <class P>
P* at(void* workspace, std::int64_t offset) {
  return reinterpret_cast<P*>(static_cast<unsigned char*>(workspace) + offset);
}

template <class Map>
void require(const DecodeAttentionArgs<Map>& a, const DecodeSchedule& s) {
  const KvLayout& layout = a.pool.layout;
  const auto refuse = [&](const std::string& what) {
    throw std::invalid_argument("decode_attention: " + what + " [rows " + std::to_string(a.rows) +
                                ", heads " + std::to_string(a.heads) + "/" +
                                std::to_string(layout.kv_heads) + ", head_dim " +
                                std::to_string(layout.head_dim) + "]");
  };
  if (a.heads != s.heads || layout.kv_heads != s.kv_heads || layout.head_dim != s.head_dim ||
      a.rows > s.max_rows) {
    refuse("the schedule was made for another shape");
  }
  if (a.heads % layout.kv_heads != 0) refuse("heads is no multiple of kv_heads");
  if (a.dtype == DType::f32 || layout.dtype != a.dtype) {
    refuse("pool, q and out must all be f16 or all bf16");
  }
  if (!(a.scale > 0)) refuse("scale must be positive");
  if (a.q_stride % 8 != 0 || a.out_stride % 8 != 0) refuse("strides must be multiples of 8");
  if (layout.slots >= std::int64_t{1} << 31) refuse("2^31 slots or more");
}

}  // namespace

int device_blocks() {
  int device = 0;
  int count = 0;
  KVSTOW_CUDA(cudaGetDevice(&device));
  KVSTOW_CUDA(cudaDeviceGetAttribute(&count, cudaDevAttrMultiProcessorCount, device));
  return count;
}

DecodeSchedule decode_schedule(int max_rows, int max_length, int heads, const KvLayout& layout,
                               int blocks) {
  const int most = device_blocks();
  return {max_rows, heads, layout.kv_heads, layout.head_dim,
          decode_workspace(max_rows, max_length, heads, layout,
                           blocks < 1 ? 1 : (blocks < most ? blocks : most))};
}

void plan_decode_attention(const DecodeSchedule& s, const std::int32_t* length, int rows,
                           void* workspace, cudaStream_t stream) {
  const DecodeWorkspace& w = s.workspace;
  launch("decode plan", plan_kernel, {.grid = dim3(1), .block = dim3(kPlanThreads)}, stream, length,
         rows, decode_tiling(s.heads, s.kv_heads).tiles,
         w.multiprocessors * blocks_per_multiprocessor(s.head_dim),
         at<std::int32_t>(workspace, w.count_at), at<Unit>(workspace, w.units_at));
}

template <class Map>
void decode_attention(const DecodeAttentionArgs<Map>& a, const DecodeSchedule& s, void* workspace,
                      cudaStream_t stream, Dependent dependent) {
  require(a, s);
  if (a.rows == 0) return;
  const DecodeWorkspace& w = s.workspace;
  const KvLayout& layout = a.pool.layout;
  const auto* pool = static_cast<const unsigned char*>(a.pool.data);
  DecodeParams p{};
  p.k = pool + layout.part_offset(a.layer, 0) * 2;
  p.v = pool + layout.part_offset(a.layer, 1) * 2;
  p.slot_bytes = static_cast<std::uint32_t>(layout.slot_stride() * 2);
  p.q = a.q;
  p.q_stride = a.q_stride;
  p.out = a.out;
  p.out_stride = a.out_stride;
  p.map_row = a.map_row;
  p.stable_length = a.stable_length;
  p.unit_count = at<std::int32_t>(workspace, w.count_at);
  p.units = at<Unit>(workspace, w.units_at);
  p.parts = at<float>(workspace, w.parts_at);
  p.part_floats = static_cast<std::int32_t>(w.part_floats);
  p.scale_log2 = a.scale * 1.4426950408889634f;
  p.tiling = decode_tiling(a.heads, layout.kv_heads);
  p.by_tiles = divide_by(static_cast<std::uint32_t>(p.tiling.tiles));
  p.by_tiles_per_kv_head = divide_by(static_cast<std::uint32_t>(p.tiling.tiles_per_kv_head));
  if constexpr (std::is_same_v<Map, BlockTableMap>) {
    p.by_block_tokens = divide_by(static_cast<std::uint32_t>(a.map.block_tokens));
  }
  const std::int64_t entries = w.max_units / s.max_rows * a.rows * p.tiling.tiles;
  if (a.dtype == DType::f16) {
    launch_decode<__half>(p, a.map, layout.head_dim, entries, w.multiprocessors, stream, dependent);
  } else {
    launch_decode<__nv_bfloat16>(p, a.map, layout.head_dim, entries, w.multiprocessors, stream,
                                 dependent);
  }
}

template void decode_attention(const DecodeAttentionArgs<AffineMap>&, const DecodeSchedule&, void*,
                               cudaStream_t, Dependent);
template void decode_attention(const DecodeAttentionArgs<BlockTableMap>&, const DecodeSchedule&,
                               void*, cudaStream_t, Dependent);

}  // namespace kvstow::kernels::cuda
