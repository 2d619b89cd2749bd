#include <stdexcept>
#include <string>

#include "kernels/cuda/decode_attention.cuh"

namespace kvstow::kernels::cuda {
namespace {

constexpr int kPlanThreads = 1024;
constexpr int kMaxBlocks = 256;  // DecodeTile::kMergeBlocks

// One block: sums the rows' chunks, deals runs and finds where they begin.
__global__ void __launch_bounds__(kPlanThreads)
    plan_kernel(const std::int32_t* length, int rows, int tiles, int blocks,
                std::int64_t* chunks_before, PlanEntry* plan) {
  __shared__ std::int64_t warp_sums[kPlanThreads / 32];
  __shared__ std::int64_t runs[kMaxBlocks];  // chunks in rounds, then lengths, then beginnings
  const int thread = static_cast<int>(threadIdx.x);
  const int lane = thread % 32;
  const int warp = thread / 32;
  ptx::wait_for_earlier_kernels();
  ptx::let_next_kernel_start();
  std::int64_t before = 0;
  bool differs = false;
  const std::int32_t first_chunks = rows > 0 ? chunks_of(length[0]) : 0;
  for (int first = 0; first < rows; first += kPlanThreads) {
    const int row = first + thread;
    std::int64_t sum = row < rows ? chunks_of(length[row]) : 0;  // inclusive, within the warp
    differs |= row < rows && sum != first_chunks;
    for (int offset = 1; offset < 32; offset *= 2) {
      const std::int64_t other = __shfl_up_sync(0xffffffffu, sum, offset);
      if (lane >= offset) sum += other;
    }
    if (lane == 31) warp_sums[warp] = sum;
    __syncthreads();
    std::int64_t warps_before = 0;
    std::int64_t all = 0;
    for (int w = 0; w < kPlanThreads / 32; ++w) {
      if (w < warp) warps_before += warp_sums[w];
      all += warp_sums[w];
    }
    if (row < rows) chunks_before[row + 1] = before + warps_before + sum;
    before += all;
    __syncthreads();
  }
  if (thread == 0) chunks_before[0] = 0;
  const bool ragged = __syncthreads_or(differs);
  const int rounds = plan_rounds(std::int64_t{rows} * tiles, blocks, ragged);
  for (int c = thread; c < blocks; c += kPlanThreads) {
    runs[c] = chunks_in_rounds(chunks_before, tiles, blocks, rounds, c);
  }
  const std::int64_t line = line_begin(chunks_before, rows, tiles, blocks, rounds);
  const std::int64_t left = chunks_before[rows] * tiles - line;
  __syncthreads();
  if (warp == 0) {
    std::int64_t most = 0;
    for (int c = lane; c < blocks; c += 32) most = runs[c] > most ? runs[c] : most;
    for (int offset = 16; offset > 0; offset /= 2) {
      const std::int64_t other = __shfl_xor_sync(0xffffffffu, most, offset);
      most = other > most ? other : most;
    }
    const auto filled = [&](std::int64_t level) {
      std::int64_t sum = 0;
      for (int c = lane; c < blocks; c += 32) sum += level > runs[c] ? level - runs[c] : 0;
      for (int offset = 16; offset > 0; offset /= 2) {
        sum += __shfl_xor_sync(0xffffffffu, sum, offset);
      }
      return sum;
    };
    const std::int64_t level = fill_level(left, most, filled);
    const std::int64_t excess = filled(level) - left;
    __syncwarp();
    if (lane == 0) {
      run_lengths(runs, blocks, level, excess);
      std::int64_t begin = line;
      for (int c = 0; c < blocks; ++c) {
        const std::int64_t run = runs[c];
        runs[c] = begin;
        begin += run;
      }
    }
  }
  __syncthreads();
  for (int c = thread; c <= blocks; c += kPlanThreads) {
    plan[c] =
        plan_entry(chunks_before, rows, tiles, c < blocks ? runs[c] : chunks_before[rows] * tiles);
  }
  if (thread == 0) plan[blocks + 1] = {rounds, 0, 0, 0};
  __syncthreads();
  for (int c = thread; c < blocks; c += kPlanThreads) plan[c].began = block_that_began(plan, c);
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
  if (blocks < 1 || blocks > kMaxBlocks) {
    throw std::invalid_argument("decode_schedule: " + std::to_string(blocks) + " blocks (1 to " +
                                std::to_string(kMaxBlocks) + ")");
  }
  return {max_rows, heads, layout.kv_heads, layout.head_dim,
          decode_workspace(max_rows, max_length, heads, layout, blocks)};
}

void plan_decode_attention(const DecodeSchedule& s, const std::int32_t* length, int rows,
                           void* workspace, cudaStream_t stream) {
  const DecodeWorkspace& w = s.workspace;
  launch("decode plan", plan_kernel, {.grid = dim3(1), .block = dim3(kPlanThreads)}, stream, length,
         rows, decode_tiling(s.heads, s.kv_heads).tiles, w.blocks,
         at<std::int64_t>(workspace, w.chunks_at), at<PlanEntry>(workspace, w.plan_at));
}

template <class Map>
void decode_attention(const DecodeAttentionArgs<Map>& a, const DecodeSchedule& s, void* workspace,
                      cudaStream_t stream, Dependent dependent) {
  require(a, s);
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
  p.length = a.length;
  p.stable_length = a.stable_length;
  p.plan = at<PlanEntry>(workspace, w.plan_at);
  p.flags = at<unsigned>(workspace, w.flags_at);
  p.states = at<float>(workspace, w.states_at);
  p.partials = at<float>(workspace, w.partials_at);
  p.partials_stride = w.partials * w.result_floats;
  p.result_floats = w.result_floats;
  p.scale_log2 = a.scale * 1.4426950408889634f;
  p.tiling = decode_tiling(a.heads, layout.kv_heads);
  if (a.dtype == DType::f16) {
    launch_decode<__half>(p, a.map, layout.head_dim, w.blocks, stream, dependent);
  } else {
    launch_decode<__nv_bfloat16>(p, a.map, layout.head_dim, w.blocks, stream, dependent);
  }
}

template void decode_attention(const DecodeAttentionArgs<AffineMap>&, const DecodeSchedule&, void*,
                               cudaStream_t, Dependent);
template void decode_attention(const DecodeAttentionArgs<BlockTableMap>&, const DecodeSchedule&,
                               void*, cudaStream_t, Dependent);

}  // namespace kvstow::kernels::cuda
