#include "kernels/cuda/cache_ops.h"
#include "kernels/cuda/elements_f32.cuh"
#include "kernels/cuda/launch.h"

namespace kvstow::kernels::cuda {
namespace {

constexpr int kThreads = 256;

struct Params {
  RotateWriteArgs a;
  std::uint32_t heads_of_row;  // of q, then K, then V
  std::uint32_t items;         // rows * heads_of_row
  std::uint32_t vectors;       // of 8 elements in half a head
};

// kLanes threads share a head; each holds 8 elements of its lower half and the 8 that pair with
// them. kLanes is a power of two; the last lanes have nothing where head_dim / 16 is none.
template <class T, int kLanes>
__global__ void __launch_bounds__(kThreads) rotate_and_write_kernel(const Params p) {
  ptx::let_next_kernel_start();
  const RotateWriteArgs& a = p.a;
  const KvLayout& layout = a.kv.pool.layout;
  const std::uint32_t item = (blockIdx.x * kThreads + threadIdx.x) / kLanes;
  const std::uint32_t lane = threadIdx.x % kLanes;
  const bool mine = item < p.items && lane < p.vectors;
  const auto row = static_cast<std::int64_t>(item / p.heads_of_row);
  const int head = static_cast<int>(item % p.heads_of_row);
  const int dim = layout.head_dim;
  const int at = static_cast<int>(lane) * 8;  // of this lane's vector in either half
  const bool is_q = head < a.heads;
  const bool is_v = head >= a.heads + layout.kv_heads;
  const int kv_head = head - a.heads - (is_v ? layout.kv_heads : 0);
  // No kernel of the step writes these.
  const std::int64_t slot = mine && !is_q ? a.kv.slots[row] : 0;
  const std::int64_t position = mine && a.cos ? a.position[row] : 0;
  ptx::wait_for_earlier_kernels();

  float low[8] = {};
  float high[8] = {};
  const T* from = nullptr;
  if (mine) {
    from = is_q   ? static_cast<const T*>(a.q) + row * a.q_stride + head * dim
           : is_v ? static_cast<const T*>(a.kv.v) + row * a.kv.v_stride + kv_head * dim
                  : static_cast<const T*>(a.kv.k) + row * a.kv.k_stride + kv_head * dim;
    load8(from + at, low);
    load8(from + dim / 2 + at, high);
  }
  if (a.q_weight) {
    float square = 0;
#pragma unroll
    for (int i = 0; i < 8; ++i) square = fmaf(low[i], low[i], square);
#pragma unroll
    for (int i = 0; i < 8; ++i) square = fmaf(high[i], high[i], square);
#pragma unroll
    for (int offset = kLanes / 2; offset > 0; offset /= 2) {
      square += __shfl_xor_sync(0xffffffffu, square, offset, kLanes);
    }
    if (mine && !is_v) {
      const T* weight = static_cast<const T*>(is_q ? a.q_weight : a.k_weight);
      const float factor = rsqrtf(square / static_cast<float>(dim) + a.epsilon);
      float w[8];
      load8(weight + at, w);
#pragma unroll
      for (int i = 0; i < 8; ++i) low[i] *= factor * w[i];
      load8(weight + dim / 2 + at, w);
#pragma unroll
      for (int i = 0; i < 8; ++i) high[i] *= factor * w[i];
    }
  }
  if (!mine) return;
  if (a.cos && !is_v) {
    const std::int64_t angle = position * (dim / 2) + at;
    float c[8];
    float s[8];
    load8(a.cos + angle, c);
    load8(a.sin + angle, s);
#pragma unroll
    for (int i = 0; i < 8; ++i) {
      const float l = low[i];
      low[i] = l * c[i] - high[i] * s[i];
      high[i] = high[i] * c[i] + l * s[i];
    }
  }
  T* to = nullptr;
  if (is_q) {
    to = static_cast<T*>(a.q) + row * a.q_stride + head * dim;
  } else {
    if (slot < 0) return;
    to = static_cast<T*>(a.kv.pool.data) + layout.part_offset(a.kv.layer, is_v ? 1 : 0) +
         slot * layout.slot_stride() + kv_head * dim;
  }
  store8(to + at, low);
  store8(to + dim / 2 + at, high);
}

}  // namespace

void rotate_and_write(const RotateWriteArgs& a, cudaStream_t stream, Dependent dependent) {
  constexpr const char* kName = "rotate_and_write";
  const KvLayout& layout = a.kv.pool.layout;
  require(a.kv.dtype == layout.dtype, kName, "pool and rows differ in dtype");
  require(layout.head_dim % 16 == 0 && layout.head_dim <= 256, kName,
          "head_dim is not a multiple of 16 up to 256");
  require(a.kv.k_stride % 8 == 0 && a.kv.v_stride % 8 == 0 && a.q_stride % 8 == 0, kName,
          "a stride is not a multiple of 8 elements");
  Params p{a, static_cast<std::uint32_t>(a.heads + 2 * layout.kv_heads), 0,
           static_cast<std::uint32_t>(layout.head_dim / 16)};
  p.items = p.heads_of_row * static_cast<std::uint32_t>(a.kv.rows);
  if (p.items == 0) return;
  with_any_dtype(a.kv.dtype, kName, [&]<class T>() {
    const auto with_lanes = [&]<int kLanes>() {
      const std::uint32_t blocks = (p.items * kLanes + kThreads - 1) / kThreads;
      launch(kName, rotate_and_write_kernel<T, kLanes>,
             {.grid = blocks, .block = kThreads, .dependent = dependent == Dependent::yes}, stream,
             p);
    };
    if (p.vectors <= 4) return with_lanes.template operator()<4>();
    if (p.vectors <= 8) return with_lanes.template operator()<8>();
    with_lanes.template operator()<16>();
  });
}

void write_kv(const WriteKvArgs& a, cudaStream_t stream, Dependent dependent) {
  rotate_and_write({.kv = a,
                    .heads = 0,
                    .q = nullptr,
                    .q_stride = 0,
                    .q_weight = nullptr,
                    .k_weight = nullptr,
                    .epsilon = 0,
                    .position = nullptr,
                    .cos = nullptr,
                    .sin = nullptr},
                   stream, dependent);
}

}  // namespace kvstow::kernels::cuda
