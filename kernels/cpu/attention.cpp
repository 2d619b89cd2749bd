#include <algorithm>
#include <vector>

#include "core/check.h"
#include "kernels/cpu/cpu.h"

namespace kvstow::kernels::cpu {
namespace {

// The only part that knows the map: element offsets of the positions [begin, begin + n) of one row,
// relative to the first slot of a layer's K or V. Both maps fill runs, so neither divides per
// token.
void fill_run(std::int64_t first, std::int64_t stride, int n, std::int64_t* offset) {
  for (int i = 0; i < n; ++i) offset[i] = first + i * stride;
}

void fill_offsets(const AffineMap& map, std::int64_t row, std::int64_t begin, int n,
                  std::int64_t stride, std::int64_t* offset) {
  fill_run(map.slot(row, begin) * stride, stride, n, offset);
}

void fill_offsets(const BlockTableMap& map, std::int64_t row, std::int64_t begin, int n,
                  std::int64_t stride, std::int64_t* offset) {
  for (int i = 0; i < n;) {
    const std::int64_t position = begin + i;
    const int run = static_cast<int>(
        std::min<std::int64_t>(n - i, map.block_tokens - position % map.block_tokens));
    fill_run(map.slot(row, position) * stride, stride, run, offset + i);
    i += run;
  }
}

// The query heads that read one K/V head, for `rows` consecutive positions: row r sees positions
// [0, length + r). Chunks outside, rows and heads inside, so that a chunk of K and V is fetched
// once.
template <class Map>
struct Work {
  const KvPool& pool;
  int layer;
  const Map& map;
  std::int64_t map_row;
  int kv_head;
  int group;  // query heads per K/V head
  int rows;
  std::int64_t length;
  const float* q;  // first row, first head of the group
  std::int64_t q_stride;
  float* out;
  std::int64_t out_stride;
  float scale;
};

template <class Map>
void attend(const Work<Map>& w) {
  const KvLayout& layout = w.pool.layout;
  const int dim = layout.head_dim;
  const std::int64_t head = std::int64_t{w.kv_head} * dim;
  const float* k = static_cast<const float*>(w.pool.data) + layout.part_offset(w.layer, 0) + head;
  const float* v = static_cast<const float*>(w.pool.data) + layout.part_offset(w.layer, 1) + head;
  const Isa& kernel = isa();

  thread_local std::vector<AttentionState> states;
  states.resize(static_cast<std::size_t>(w.rows) * static_cast<std::size_t>(w.group));
  const std::int64_t longest = w.length + w.rows - 1;
  // Offsets are filled a chunk ahead, so that the first K of the next chunk is already on its way
  // (the rest is prefetched inside the chunk).
  constexpr int kAhead = 32;
  std::int64_t offsets[2][kAttentionChunk];
  const auto fill_chunk = [&](std::int64_t begin, std::int64_t* offset) {
    const int filled =
        static_cast<int>(std::clamp<std::int64_t>(longest - begin, 0, kAttentionChunk));
    if (filled > 0) fill_offsets(w.map, w.map_row, begin, filled, layout.slot_stride(), offset);
    return filled;
  };
  int filled = fill_chunk(0, offsets[0]);
  int following = 0;
  for (std::int64_t begin = 0; begin < longest; begin += kAttentionChunk, filled = following) {
    const std::int64_t* offset = offsets[begin / kAttentionChunk % 2];
    std::int64_t* next = offsets[(begin / kAttentionChunk + 1) % 2];
    following = fill_chunk(begin + kAttentionChunk, next);
    for (int t = 0; t < std::min(kAhead, following); ++t) {
      for (int d = 0; d < dim; d += 16) __builtin_prefetch(k + next[t] + d, 0, 2);
    }
    for (int r = 0; r < w.rows; ++r) {
      const int n = static_cast<int>(std::min<std::int64_t>(filled, w.length + r - begin));
      if (n <= 0) continue;
      for (int h = 0; h < w.group; ++h) {
        AttentionState& state = states[static_cast<std::size_t>(r) * w.group + h];
        state.acc = w.out + r * w.out_stride + std::int64_t{h} * dim;
        kernel.attend_chunk(w.q + r * w.q_stride + std::int64_t{h} * dim, k, v, offset, n, dim,
                            w.scale, begin == 0, state);
      }
    }
  }
  for (int r = 0; r < w.rows; ++r) {
    for (int h = 0; h < w.group; ++h) {
      float* out = w.out + r * w.out_stride + std::int64_t{h} * dim;
      const float sum =
          w.length + r > 0 ? states[static_cast<std::size_t>(r) * w.group + h].sum : 0;
      for (int d = 0; d < dim; ++d) out[d] = sum == 0 ? 0.0f : out[d] / sum;
    }
  }
}

// Query rows of a prefill that share one pass over K and V.
constexpr int kPrefillRows = 16;

}  // namespace

template <class Map>
void decode_attention(const DecodeAttentionArgs<Map>& a, ThreadPool& threads) {
  KVSTOW_DCHECK(a.dtype == DType::f32 && a.pool.layout.dtype == DType::f32, "f32 only");
  const int kv_heads = a.pool.layout.kv_heads;
  const int group = a.heads / kv_heads;
  const int width = group * a.pool.layout.head_dim;
  threads.run(std::int64_t{a.rows} * kv_heads, [&](std::int64_t task) {
    const std::int64_t row = task / kv_heads;
    const int head = static_cast<int>(task % kv_heads);
    const std::int64_t column = std::int64_t{head} * width;
    attend(Work<Map>{a.pool, a.layer, a.map, a.map_row[row], head, group, 1, a.length[row],
                     static_cast<const float*>(a.q) + row * a.q_stride + column, a.q_stride,
                     static_cast<float*>(a.out) + row * a.out_stride + column, a.out_stride,
                     a.scale});
  });
}

template <class Map>
void prefill_attention(const PrefillAttentionArgs<Map>& a, ThreadPool& threads) {
  KVSTOW_DCHECK(a.dtype == DType::f32 && a.pool.layout.dtype == DType::f32, "f32 only");
  const int kv_heads = a.pool.layout.kv_heads;
  const int group = a.heads / kv_heads;
  const int width = group * a.pool.layout.head_dim;
  for (int s = 0; s < a.sequences; ++s) {
    const int rows = a.row_begin[s + 1] - a.row_begin[s];
    const std::int64_t tiles = ceil_div(rows, kPrefillRows);
    threads.run(tiles * kv_heads, [&](std::int64_t task) {
      // The last tiles are the longest: they go first.
      const int from = static_cast<int>(tiles - 1 - task / kv_heads) * kPrefillRows;
      const int head = static_cast<int>(task % kv_heads);
      const std::int64_t row = a.row_begin[s] + from;
      const std::int64_t column = std::int64_t{head} * width;
      attend(Work<Map>{a.pool, a.layer, a.map, a.map_row[s], head, group,
                       std::min(kPrefillRows, rows - from), std::int64_t{a.first[s]} + from + 1,
                       static_cast<const float*>(a.q) + row * a.q_stride + column, a.q_stride,
                       static_cast<float*>(a.out) + row * a.out_stride + column, a.out_stride,
                       a.scale});
    });
  }
}

template void decode_attention(const DecodeAttentionArgs<AffineMap>&, ThreadPool&);
template void decode_attention(const DecodeAttentionArgs<BlockTableMap>&, ThreadPool&);
template void prefill_attention(const PrefillAttentionArgs<AffineMap>&, ThreadPool&);
template void prefill_attention(const PrefillAttentionArgs<BlockTableMap>&, ThreadPool&);

}  // namespace kvstow::kernels::cpu
