#include <stdexcept>
#include <string>
#include <type_traits>

#include "kernels/cuda/decode_launch.cuh"

namespace kvstow::kernels::cuda {
namespace {

constexpr int kPlanThreads = 512;
constexpr int kPlanBlocks = 16;
constexpr int kSortedRows = 2048;  // longer lists are dealt as they come

struct PlanShape {
  int rows;
  int tiles;
  Divider by_tiles;
  int blocks;
  int cluster;
};

// The rows with the longest first; equal ones keep their order.
struct SortedRows {
  std::int32_t length[kSortedRows];
  std::int32_t row[kSortedRows];
  std::int32_t given[kSortedRows];
  std::int32_t rank[kSortedRows];
  std::int32_t chunks;  // of all

  __device__ void sort(const std::int32_t* lengths, int rows) {
    const int thread = static_cast<int>(threadIdx.x);
    if (thread == 0) chunks = 0;
    for (int i = thread; i < rows; i += kPlanThreads) {
      given[i] = lengths[i];
      rank[i] = 0;
    }
    __syncthreads();
    // Several threads count for one row where there are few rows.
    const int shares = rows >= kPlanThreads ? 1 : kPlanThreads / rows;
    for (int i = thread; i < rows * shares; i += kPlanThreads) {
      const int row = i % rows;
      const int share = i / rows;
      const std::int32_t own = given[row];
      int before = 0;
#pragma unroll 4
      for (int j = rows * share / shares; j < rows * (share + 1) / shares; ++j) {
        before += given[j] > own || (given[j] == own && j < row) ? 1 : 0;
      }
      atomicAdd(&rank[row], before);
    }
    __syncthreads();
    for (int i = thread; i < rows; i += kPlanThreads) {
      atomicAdd(&chunks, chunks_of(given[i]));
      length[rank[i]] = given[i];
      row[rank[i]] = i;
    }
    __syncthreads();
  }
};

// The team's size with which the fullest team has least to do. Where the longest row is short
// against a block's share no team is needed.
__device__ int choose_team(SortedRows& sorted, const PlanShape& s, bool folded,
                           std::int32_t (&fullest)[kMaxTeam + 1]) {
  const int thread = static_cast<int>(threadIdx.x);
  const int items = s.rows * s.tiles;
  const std::int64_t longest = chunks_of(sorted.length[0]);
  if (std::int64_t{sorted.chunks} * s.tiles >= 6 * longest * s.blocks) return 1;
  int largest = 1;
  for (int team = 1; team <= s.cluster; ++team) {
    if (s.cluster % team != 0) continue;
    const Deal deal{items, s.blocks, team, folded};
    const int teams = deal.teams();
    const int rounds = deal.rounds();
    if (team > 2 && rounds > 1) break;  // large teams that fill the device start late
    largest = team;
    std::int32_t(&cost)[kSortedRows] = sorted.given;  // no longer needed
    for (int i = thread; i < s.rows; i += kPlanThreads) {
      cost[i] = dealing_cost(sorted.length[i], team);
    }
    __syncthreads();
    for (int n = thread; n < teams; n += kPlanThreads) {
      std::int32_t all = 0;
#pragma unroll 4
      for (int round = 0; round < rounds; ++round) {
        const std::int32_t item = deal.item(round, n, teams);
        if (item >= 0) all += cost[s.by_tiles.quotient(item)];
      }
      atomicMax(&fullest[team], all);
    }
    __syncthreads();
  }
  int best = 1;
  for (int team = 2; team <= largest; ++team) {
    if (s.cluster % team == 0 && fullest[team] < fullest[best]) best = team;
  }
  return best;
}

// Every block of the grid finds out the same and writes its share of the list.
__global__ void __launch_bounds__(kPlanThreads)
    plan_kernel(const std::int32_t* map_row, const std::int32_t* length, PlanShape s, Part* list) {
  __shared__ SortedRows sorted;
  __shared__ std::int32_t fullest[kMaxTeam + 1];
  const int thread = static_cast<int>(threadIdx.x);
  ptx::let_next_kernel_start();
  ptx::wait_for_earlier_kernels();
  if (thread <= kMaxTeam) fullest[thread] = 0;
  const bool sorts = s.rows <= kSortedRows;
  if (sorts) sorted.sort(length, s.rows);
  const bool folded = sorts && chunks_of(sorted.length[0]) != chunks_of(sorted.length[s.rows - 1]);
  int team = sorts ? choose_team(sorted, s, folded, fullest) : 1;
  const Deal deal{s.rows * s.tiles, s.blocks, team, folded};
  const int teams = deal.teams();
  const int entries = deal.rounds() * s.blocks;
  for (int i = blockIdx.x * kPlanThreads + thread; i < entries; i += kPlanBlocks * kPlanThreads) {
    const int round = i / s.blocks;
    const int block = i - round * s.blocks;
    const int n = block / team;
    const std::int32_t item = deal.item(round, n, teams);
    Part part{-1, 0, 0, 0};
    if (item >= 0) {
      const int at = static_cast<int>(s.by_tiles.quotient(item));
      const int row = sorts ? sorted.row[at] : at;
      part = part_of(row, map_row[row], sorts ? sorted.length[at] : length[at], item - at * s.tiles,
                     block - n * team, team, deal.item(round + 1, n, teams) >= 0);
    }
    list[i] = part;
  }
}

DecodeGrid grid_of(const DecodeSchedule& s, int rows) {
  return decode_grid(s.room, rows * decode_tiling(s.heads, s.kv_heads).tiles);
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
  if (decode_tiling(a.heads, layout.kv_heads).tiles > kMaxTiles) refuse("too many heads");
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

bool decode_can_share(const KvLayout& layout) {
  return layout.dtype != DType::f32 && blocks_per_multiprocessor(layout.head_dim) == 2;
}

DecodeSchedule decode_schedule(int max_rows, int max_length, int heads, const KvLayout& layout,
                               int blocks, DecodeShare share) {
  if (share != DecodeShare::all && !decode_can_share(layout)) {
    throw std::invalid_argument("decode_schedule: a body that shares no multiprocessor");
  }
  const int most = device_blocks();
  const int multiprocessors = blocks < 1 ? 1 : (blocks < most ? blocks : most);
  DecodeSchedule s{max_rows, heads, layout.kv_heads, layout.head_dim, {{}, max_length}, 0, share};
  const int tiles = decode_tiling(heads, layout.kv_heads).tiles;
  const int asked = share == DecodeShare::all
                        ? multiprocessors * blocks_per_multiprocessor(layout.head_dim)
                        : multiprocessors;
  for (const int cluster : kClusters) {
    if (cluster > 1 && leaves_of(max_length) == 1) break;
    // f32 is planned as well, although no body here will run it.
    const int resident =
        layout.dtype == DType::f32 ? asked : resident_clusters<__half>(layout.head_dim, cluster);
    s.room.blocks[cluster] = ::min(resident, asked / cluster) * cluster;
  }
  s.workspace_bytes = plan_entries(s.room, std::int64_t{max_rows} * tiles) *
                      static_cast<std::int64_t>(sizeof(Part));
  return s;
}

void plan_decode_attention(const DecodeSchedule& s, const std::int32_t* map_row,
                           const std::int32_t* length, int rows, void* workspace,
                           cudaStream_t stream) {
  if (rows == 0) return;
  const DecodeGrid grid = grid_of(s, rows);
  const int tiles = decode_tiling(s.heads, s.kv_heads).tiles;
  const PlanShape shape{rows, tiles, divide_by(static_cast<std::uint32_t>(tiles)), grid.blocks,
                        grid.cluster};
  launch("decode plan", plan_kernel, {.grid = dim3(kPlanBlocks), .block = dim3(kPlanThreads)},
         stream, map_row, length, shape, static_cast<Part*>(workspace));
}

template <class Map>
void decode_attention(const DecodeAttentionArgs<Map>& a, const DecodeSchedule& s, void* workspace,
                      cudaStream_t stream, Dependent dependent) {
  require(a, s);
  if (a.rows == 0) return;
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
  p.stable_length = a.stable_length;
  p.list = static_cast<const Part*>(workspace);
  p.scale_log2 = a.scale * 1.4426950408889634f;
  p.tiling = decode_tiling(a.heads, layout.kv_heads);
  p.by_tiles_per_kv_head = divide_by(static_cast<std::uint32_t>(p.tiling.tiles_per_kv_head));
  p.tiles_are_runs = true;
  if constexpr (std::is_same_v<Map, BlockTableMap>) {
    p.tiles_are_runs = a.map.block_tokens % DecodeTile<64>::kTokens == 0;
    p.by_block_tokens = divide_by(static_cast<std::uint32_t>(a.map.block_tokens));
  }
  const DecodeGrid grid = grid_of(s, a.rows);
  p.clusters = grid.cluster > 1;
  const bool tiles_have_ids = std::is_same_v<Map, BlockTableMap> && p.tiles_are_runs;
  const DecodeAhead ahead = decode_ahead(s.room, grid, a.rows * p.tiling.tiles, tiles_have_ids);
  const DecodeLaunch shape{grid.blocks, grid.cluster, s.share, ahead, stream, dependent};
  if (a.dtype == DType::f16) {
    launch_decode<__half>(p, a.map, layout.head_dim, shape);
  } else {
    launch_decode<__nv_bfloat16>(p, a.map, layout.head_dim, shape);
  }
}

template void decode_attention(const DecodeAttentionArgs<AffineMap>&, const DecodeSchedule&, void*,
                               cudaStream_t, Dependent);
template void decode_attention(const DecodeAttentionArgs<BlockTableMap>&, const DecodeSchedule&,
                               void*, cudaStream_t, Dependent);

}  // namespace kvstow::kernels::cuda
