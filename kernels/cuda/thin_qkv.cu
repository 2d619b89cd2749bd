#include <algorithm>

#include "kernels/cuda/launch.h"
#include "kernels/cuda/thin_product.cuh"
#include "kernels/cuda/thin_product.h"
#include "kernels/cuda/thin_qkv.h"

namespace kvstow::kernels::cuda {
namespace {

constexpr int kDim = 128;  // of a head: two warpgroups' outputs
constexpr int kHalf = kDim / 2;
constexpr int kWarps = 8;
constexpr int kRoom = thin::kSharedBytes - 4096;  // what is not the ring's is beside it

struct Params {
  thin::Operands operands;  // W: halves of heads, groups of 8 rows
  RotateWriteArgs to;
};

// Of every 16 rows of W in shared memory 8 are of a head's lower half and 8 those that pair with
// them, so a thread has both elements of its pairs: dimension `low` and low + 64 of the rows
// 8 n + lane % 4 * 2 and the next. It writes (after a transposition) row 8 n + lane / 4.
template <class T, int kRows>
struct QkvBody {
  static constexpr int kPanels = 2;
  using Pipe = thin::Pipe<T, kRows, 2, kPanels>;
  static_assert(Pipe::kProducts == 1);

  struct Shared {
    thin::Barriers barriers;
    float squares[kWarps][kRows];
    float factor[kRows];
  };

  const Params& p;
  Shared& shared;
  int lane = static_cast<int>(threadIdx.x) % 32;
  int warp = static_cast<int>(threadIdx.x) / 32;
  int head = static_cast<int>(blockIdx.x);
  int row0 = static_cast<int>(blockIdx.y) * kRows;
  int kv_head = head - p.to.heads;  // of K; then V's follow
  bool is_q = kv_head < 0;
  bool is_v = kv_head >= p.to.kv.pool.layout.kv_heads;
  int low = warp * 8 + lane / 4;

  __device__ bool rotates() const { return p.to.cos && !is_v; }
  __device__ bool norms() const { return p.to.q_weight && !is_v; }

  // What does not depend on x.
  struct Prepared {
    float cos[kRows / 8][2];
    float sin[kRows / 8][2];
    T* to[kRows / 8];  // null: nowhere
    float weight[2];
  };

  __device__ T* place(int row) const {
    if (row >= p.to.kv.rows) return nullptr;
    if (is_q) return static_cast<T*>(p.to.q) + row * p.to.q_stride + head * kDim;
    const KvLayout& layout = p.to.kv.pool.layout;
    const std::int64_t slot = p.to.kv.slots[row];
    if (slot < 0) return nullptr;
    return static_cast<T*>(p.to.kv.pool.data) + layout.part_offset(p.to.kv.layer, is_v ? 1 : 0) +
           slot * layout.slot_stride() + (is_v ? kv_head - layout.kv_heads : kv_head) * kDim;
  }

  __device__ void prepare(Prepared& known) const {
#pragma unroll
    for (int n = 0; n < kRows / 8; ++n) {
      known.to[n] = place(row0 + 8 * n + lane / 4);
#pragma unroll
      for (int c = 0; c < 2; ++c) {
        const int row = row0 + 8 * n + lane % 4 * 2 + c;
        const bool turns = rotates() && row < p.to.kv.rows;
        const std::int64_t angle = turns ? std::int64_t{p.to.position[row]} * kHalf + low : 0;
        known.cos[n][c] = turns ? p.to.cos[angle] : 1;
        known.sin[n][c] = turns ? p.to.sin[angle] : 0;
      }
    }
    const T* weight = static_cast<const T*>(is_q ? p.to.q_weight : p.to.k_weight);
    known.weight[0] = norms() ? ptx::to_float(weight[low]) : 1;
    known.weight[1] = norms() ? ptx::to_float(weight[low + kHalf]) : 1;
  }

  // Leaves 1 / rms of every row's head in factor.
  __device__ void measure(const float (&sum)[kRows / 2]) const {
#pragma unroll
    for (int n = 0; n < kRows / 8; ++n) {
      const float* s = sum + 4 * n;
      float square[2] = {fmaf(s[0], s[0], s[2] * s[2]), fmaf(s[1], s[1], s[3] * s[3])};
#pragma unroll
      for (int c = 0; c < 2; ++c) {
#pragma unroll
        for (int offset = 4; offset < 32; offset *= 2) {
          square[c] += __shfl_xor_sync(0xffffffffu, square[c], offset);
        }
        if (lane < 4) shared.squares[warp][8 * n + lane * 2 + c] = square[c];
      }
    }
    ptx::named_barrier(1, kWarps * 32);
    const int t = static_cast<int>(threadIdx.x);
    if (t < kRows) {
      float all = 0;
#pragma unroll
      for (int w = 0; w < kWarps; ++w) all += shared.squares[w][t];
      shared.factor[t] = rsqrtf(all / kDim + p.to.epsilon);
    }
    ptx::named_barrier(1, kWarps * 32);
  }

  __device__ void finish(const float (&sum)[kRows / 2], const Prepared& known) const {
    if (norms()) measure(sum);
#pragma unroll
    for (int n = 0; n < kRows / 8; ++n) {
      float y[2][2];  // half, row
#pragma unroll
      for (int c = 0; c < 2; ++c) {
        const float factor = norms() ? shared.factor[8 * n + lane % 4 * 2 + c] : 1;
        const float l = sum[4 * n + c] * (factor * known.weight[0]);
        const float h = sum[4 * n + 2 + c] * (factor * known.weight[1]);
        y[0][c] = l * known.cos[n][c] - h * known.sin[n][c];
        y[1][c] = h * known.cos[n][c] + l * known.sin[n][c];
      }
      const std::uint32_t lower = ptx::transpose8x8(ptx::pack<T>(y[0][0], y[0][1]));
      const std::uint32_t upper = ptx::transpose8x8(ptx::pack<T>(y[1][0], y[1][1]));
      if (known.to[n] == nullptr) continue;
      T* to = known.to[n] + warp * 8 + lane % 4 * 2;
      *reinterpret_cast<std::uint32_t*>(to) = lower;
      *reinterpret_cast<std::uint32_t*>(to + kHalf) = upper;
    }
  }

  __device__ void run(std::uint32_t data) const {
    const Pipe pipe{p.operands, data, shared.barriers, 2 * head, 0, row0, 0};
    Prepared known;
    pipe.run([&] { prepare(known); },
             [&](const typename Pipe::Sums& sum) { finish(sum[0], known); });
  }
};

template <class T, int kRows>
__global__ void __launch_bounds__(288, 1) thin_qkv_kernel(const __grid_constant__ Params p) {
#if __CUDA_ARCH_FEAT_SM90_ALL
  extern __shared__ unsigned char raw[];
  __shared__ typename QkvBody<T, kRows>::Shared shared;
  const std::uint32_t data = ptx::shared_address(raw);
  QkvBody<T, kRows>{p, shared}.run((data + thin::kAlignment - 1) / thin::kAlignment *
                                   thin::kAlignment);
#endif
}

int heads_of_row(const RotateWriteArgs& to) {
  return to.heads + 2 * to.kv.pool.layout.kv_heads;
}

template <class T, int kRows>
void launch_body(const ThinQkvArgs& a, cudaStream_t stream, Dependent dependent) {
  using Body = QkvBody<T, kRows>;
  using Pipe = typename Body::Pipe;
  const int rows = a.to.kv.rows;
  const int heads = heads_of_row(a.to);
  const auto in = static_cast<std::uint64_t>(a.in);
  const std::uint64_t row = in * 2;
  Params p{.operands = {.w = make_tensor_map(
                            a.weight, a.to.kv.dtype,
                            {.extent = {in, 8, static_cast<std::uint64_t>(2 * heads), 8},
                             .stride_bytes = {row, row * kHalf, row * 8},
                             .box = {8, 2, 8}}),
                        .x = thin::map_of_x(a.x, a.x_stride, a.in, rows, a.to.kv.dtype, kRows,
                                            Body::kPanels),
                        .outputs = kDim,
                        .stages = a.in / Pipe::kColumns,
                        .ring = 0,
                        .early = 0},
           .to = a.to};
  p.operands.ring = std::min(p.operands.stages, Pipe::ring(kDim, kRoom));
  p.operands.early = p.operands.ring;
  const auto kernel = thin_qkv_kernel<T, kRows>;
  static const cudaError_t raised = cudaFuncSetAttribute(
      kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, kRoom + thin::kAlignment);
  check(raised, "cudaFuncSetAttribute", "thin_qkv");
  launch("thin_qkv", kernel,
         {.grid =
              dim3(static_cast<unsigned>(heads), static_cast<unsigned>((rows + kRows - 1) / kRows)),
          .block = Pipe::kThreads,
          .shared_bytes = Pipe::shared_bytes(p.operands),
          .dependent = dependent == Dependent::yes},
         stream, p);
}

}  // namespace

bool has_thin_qkv(const ThinQkvArgs& a) {
  return a.in <= thin::kThinColumns && a.to.kv.rows <= kMostQkvRows &&
         a.to.kv.pool.layout.head_dim == kDim && a.to.kv.dtype == a.to.kv.pool.layout.dtype &&
         has_thin_product({.use = ThinUse::store,
                           .rows = a.to.kv.rows,
                           .in = a.in,
                           .out = heads_of_row(a.to) * kDim,
                           .x = a.x,
                           .x_stride = a.x_stride,
                           .weight = a.weight,
                           .y = a.to.q,
                           .y_stride = a.to.q_stride,
                           .dtype = a.to.kv.dtype});
}

void thin_qkv(const ThinQkvArgs& a, cudaStream_t stream, Dependent dependent) {
  require(has_thin_qkv(a), "thin_qkv", "no body for this shape");
  with_dtype(a.to.kv.dtype, "thin_qkv", [&]<class T>() {
    const int rows = a.to.kv.rows;
    if (rows <= 8) return launch_body<T, 8>(a, stream, dependent);
    if (rows <= 16) return launch_body<T, 16>(a, stream, dependent);
    launch_body<T, 32>(a, stream, dependent);
  });
}

}  // namespace kvstow::kernels::cuda
