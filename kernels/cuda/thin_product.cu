#include <algorithm>

#include "kernels/cuda/elements.cuh"
#include "kernels/cuda/launch.h"
#include "kernels/cuda/tensor_map.h"
#include "kernels/cuda/thin_product.h"
#include "kernels/cuda/wgmma.cuh"

namespace kvstow::kernels::cuda {
namespace {

constexpr int kOutputs = 64;                 // of a block: one warpgroup's
constexpr int kThreads = 160;                // and a warp that copies
constexpr int kPanelBytes = kOutputs * 128;  // of W
constexpr int kMostColumns = 1024;           // of a block's part of `in`
constexpr int kMostStages = kMostColumns / 64;
constexpr int kMostRows = 128;            // of a product, and of a block that is not wide
constexpr int kSharedBytes = 224 * 1024;  // for W and x
constexpr int kAlignment = 1024;

// Panels of 64 columns that arrive together, a stage: few stages where they are small.
constexpr int panels_of(int rows) {
  return rows <= 32 ? 4 : rows < 128 ? 2 : 1;
}

struct Params {
  CUtensorMap w;  // columns, 8 rows, 2 halves, groups of 16 rows
  CUtensorMap x;  // columns of a panel, rows, panels
  void* y;
  int rows;
  int out;
  std::int64_t y_stride;
  int stages;  // of a block
  int ring;    // stages that there is room for
};

struct Barriers {
  std::uint64_t full[kMostStages];
  std::uint64_t empty[kMostStages];
};

// 64 outputs, kRows rows, one part of `in`.
template <class T, int kRows, ThinUse kUse>
struct ThinBody {
  static constexpr int kPanels = panels_of(kRows);
  static constexpr int kColumns = kPanels * 64;
  static constexpr int kWBytes = kPanels * kPanelBytes;               // of a stage
  static constexpr int kStageBytes = kWBytes + kRows * kColumns * 2;  // and x
  static constexpr int kProducts = (kRows + kMostRows - 1) / kMostRows;
  static constexpr int kProductRows = kRows / kProducts;

  const Params& p;
  std::uint32_t data;
  Barriers& barriers;
  int tile = static_cast<int>(blockIdx.x);
  int row0 = static_cast<int>(blockIdx.y) * kRows;
  int first = static_cast<int>(blockIdx.z) * p.stages * kPanels;  // panel

  __device__ std::uint32_t full(int slot) const {
    return ptx::shared_address(&barriers.full[slot]);
  }
  __device__ std::uint32_t empty(int slot) const {
    return ptx::shared_address(&barriers.empty[slot]);
  }

  // W of a stage, and that its x is to come.
  __device__ void request_w(int stage, int slot) const {
    ptx::barrier_expect(full(slot), kStageBytes);
    for (int i = 0; i < kPanels; ++i) {
      ptx::copy_box(data + slot * kStageBytes + i * kPanelBytes, &p.w,
                    (first + stage * kPanels + i) * 64, 0, 0, tile * (kOutputs / 16), full(slot));
    }
  }
  __device__ void request_x(int stage, int slot) const {
    ptx::copy_box(data + slot * kStageBytes + kWBytes, &p.x, 0, row0, first + stage * kPanels, 0,
                  full(slot));
  }

  __device__ void begin() const {
    for (int i = 0; i < p.ring; ++i) {
      ptx::barrier_init(full(i), 1);
      ptx::barrier_init(empty(i), 1);
    }
    ptx::barrier_init_fence();
    for (int i = 0; i < p.ring; ++i) request_w(i, i);
    ptx::prefetch_tensor_map(&p.x);
  }

  __device__ void copy() const {
    ptx::wait_for_earlier_kernels();
    for (int i = 0; i < p.ring; ++i) request_x(i, i);
    std::uint32_t phase = 0;
    for (int i = p.ring, slot = 0; i < p.stages; ++i) {
      ptx::barrier_wait(empty(slot), phase);
      request_w(i, slot);
      request_x(i, slot);
      if (++slot == p.ring) slot = 0, phase ^= 1;
    }
  }

  __device__ void multiply(float (&sum)[kProducts][kProductRows / 2]) const {
    std::uint32_t phase = 0;
    for (int i = 0, slot = 0, before = 0; i < p.stages; ++i) {
      ptx::barrier_wait(full(slot), phase);
      const std::uint64_t w = wgmma::describe(data + slot * kStageBytes);
      const std::uint64_t x = wgmma::describe(data + slot * kStageBytes + kWBytes);
      wgmma::fence();
#pragma unroll
      for (int k = 0; k < kColumns / 16; ++k) {
#pragma unroll
        for (int j = 0; j < kProducts; ++j) {
          wgmma::product<T, kProductRows>(
              sum[j], w + k / 4 * (kPanelBytes / 16) + k % 4 * 2,
              x + k / 4 * (kRows * 8) + j * (kProductRows * 8) + k % 4 * 2, i + k > 0);
        }
      }
      wgmma::commit();
      if (i > 0 && i - 1 + p.ring < p.stages) {  // the copies wait for the stage before
        wgmma::wait<1>();
        if (threadIdx.x == 0) ptx::barrier_arrive(empty(before));
      }
      before = slot;
      if (++slot == p.ring) slot = 0, phase ^= 1;
    }
    wgmma::wait<0>();
#pragma unroll
    for (int j = 0; j < kProducts; ++j) wgmma::pin(sum[j]);
  }

  // Eight rows of the warp's sixteen outputs, as the tensor cores leave them.
  __device__ void write(int row, float s0, float s1, float s2, float s3) const {
    const int lane = static_cast<int>(threadIdx.x) % 32;
    const int warp = static_cast<int>(threadIdx.x) / 32;
    if constexpr (kUse == ThinUse::parts) {
      row += lane % 4 * 2;
      float* to = static_cast<float*>(p.y) + (std::int64_t{blockIdx.z} * p.rows + row) * p.out +
                  tile * kOutputs + warp * 16 + lane / 4;
      if (row < p.rows) to[0] = s0, to[8] = s2;
      if (row + 1 < p.rows) to[p.out] = s1, to[p.out + 8] = s3;
      return;
    }
    row += lane / 4;
    T* to = static_cast<T*>(p.y) + row * p.y_stride + lane % 4 * 2;
    if constexpr (kUse == ThinUse::silu_mul) {  // of every 16 rows of W here, 8 are up's
      const float y0 = s0 / (1.0f + __expf(-s0)) * s2;
      const float y1 = s1 / (1.0f + __expf(-s1)) * s3;
      const std::uint32_t y = ptx::transpose8x8(ptx::pack<T>(y0, y1));
      to += tile * (kOutputs / 2) + warp * 8;
      if (row < p.rows) *reinterpret_cast<std::uint32_t*>(to) = y;
    } else {
      const std::uint32_t low = ptx::transpose8x8(ptx::pack<T>(s0, s1));
      const std::uint32_t high = ptx::transpose8x8(ptx::pack<T>(s2, s3));
      to += tile * kOutputs + warp * 16;
      if (row >= p.rows) return;
      reinterpret_cast<std::uint32_t*>(to)[0] = low;
      reinterpret_cast<std::uint32_t*>(to)[4] = high;
    }
  }

  __device__ void run() const {
    if (threadIdx.x == kThreads - 32) begin();
    __syncthreads();
    ptx::let_next_kernel_start();
    if (threadIdx.x >= kThreads - 32) {
      if (threadIdx.x == kThreads - 32) copy();
      return;
    }
    ptx::wait_for_earlier_kernels();
    float sum[kProducts][kProductRows / 2];
    multiply(sum);
#pragma unroll
    for (int n = 0; n < kRows / 8; ++n) {
      const int row = row0 + n * 8;
      const float* s = &sum[n * 8 / kProductRows][n * 8 % kProductRows / 2];
      if (row < p.rows) write(row, s[0], s[1], s[2], s[3]);
    }
  }
};

template <class T, int kRows, ThinUse kUse>
__global__ void __launch_bounds__(kThreads, 1)
    thin_product_kernel(const __grid_constant__ Params p) {
#if __CUDA_ARCH_FEAT_SM90_ALL
  extern __shared__ unsigned char raw[];
  __shared__ Barriers barriers;
  const std::uint32_t begin = ptx::shared_address(raw);
  ThinBody<T, kRows, kUse>{p, (begin + kAlignment - 1) / kAlignment * kAlignment, barriers}.run();
#endif
}

int parts_of(ThinUse use) {
  return use == ThinUse::parts ? kThinParts : 1;
}

// Rows of a block: blocks of equally many, rounded up to what has a body.
int block_rows(int rows) {
  const int blocks = (rows + kMostRows - 1) / kMostRows;
  const int each = (rows + blocks - 1) / blocks;
  for (const int n : {8, 16, 32, 64, 96}) {
    if (each <= n) return n;
  }
  return kMostRows;
}

Params describe(const ThinProductArgs& a, int rows) {
  const auto in = static_cast<std::uint64_t>(a.in);
  const auto out = static_cast<std::uint64_t>(a.out);
  const std::uint64_t row = in * 2;
  const std::uint64_t x_row = static_cast<std::uint64_t>(a.x_stride) * 2;
  const bool halves = a.use == ThinUse::silu_mul;
  return {.w = make_tensor_map(
              a.weight, a.dtype,
              {.extent = {in, 8, 2, out / 16},
               .stride_bytes = {row, row * (halves ? out / 2 : 8), row * (halves ? 8 : 16)},
               .box = {8, 2, kOutputs / 16}}),
          .x = make_tensor_map(a.x, a.dtype,
                               {.extent = {64, static_cast<std::uint64_t>(a.rows), in / 64, 1},
                                .stride_bytes = {x_row, 128, row},
                                .box = {static_cast<std::uint32_t>(rows),
                                        static_cast<std::uint32_t>(panels_of(rows)), 1}}),
          .y = a.y,
          .rows = a.rows,
          .out = a.out,
          .y_stride = a.y_stride,
          .stages = a.in / 64 / panels_of(rows) / parts_of(a.use),
          .ring = 0};
}

template <class T, int kRows, ThinUse kUse>
void launch_body(const ThinProductArgs& a, cudaStream_t stream, Dependent dependent) {
  using Body = ThinBody<T, kRows, kUse>;
  Params p = describe(a, kRows);
  p.ring = std::min(p.stages, kSharedBytes / Body::kStageBytes);
  const auto kernel = thin_product_kernel<T, kRows, kUse>;
  static const cudaError_t raised = cudaFuncSetAttribute(
      kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, kSharedBytes + kAlignment);
  check(raised, "cudaFuncSetAttribute", "thin_product");
  launch("thin_product", kernel,
         {.grid = dim3(static_cast<unsigned>(a.out / kOutputs),
                       static_cast<unsigned>((a.rows + kRows - 1) / kRows),
                       static_cast<unsigned>(parts_of(kUse))),
          .block = kThreads,
          .shared_bytes = static_cast<std::size_t>(p.ring * Body::kStageBytes + kAlignment),
          .dependent = dependent == Dependent::yes},
         stream, p);
}

template <class T, ThinUse kUse>
void launch_rows(const ThinProductArgs& a, cudaStream_t stream, Dependent dependent) {
  // Gate and up have so many outputs that two blocks for each 64 would come in two waves.
  if constexpr (kUse == ThinUse::silu_mul) {
    if (a.rows > 192) return launch_body<T, kMostThinRows, kUse>(a, stream, dependent);
    if (a.rows > kMostRows) return launch_body<T, 192, kUse>(a, stream, dependent);
  }
  switch (block_rows(a.rows)) {
    case 8:
      return launch_body<T, 8, kUse>(a, stream, dependent);
    case 16:
      return launch_body<T, 16, kUse>(a, stream, dependent);
    case 32:
      return launch_body<T, 32, kUse>(a, stream, dependent);
    case 64:
      return launch_body<T, 64, kUse>(a, stream, dependent);
    case 96:
      return launch_body<T, 96, kUse>(a, stream, dependent);
    default:
      return launch_body<T, kMostRows, kUse>(a, stream, dependent);
  }
}

}  // namespace

bool has_thin_product([[maybe_unused]] const ThinProductArgs& a) {
#ifdef KVSTOW_SM_90A
  const int parts = parts_of(a.use);
  // Whatever the rows: so that fewer rows than were asked about have a body too.
  return a.dtype != DType::f32 && a.rows >= 1 && a.rows <= kMostThinRows && a.out % kOutputs == 0 &&
         a.in % (64 * panels_of(1) * parts) == 0 && a.in / parts <= kMostColumns &&
         a.x_stride % 8 == 0 && a.y_stride % 2 == 0;
#else
  return false;
#endif
}

void thin_product(const ThinProductArgs& a, cudaStream_t stream, Dependent dependent) {
  require(has_thin_product(a), "thin_product", "no body for this shape");
  with_dtype(a.dtype, "thin_product", [&]<class T>() {
    switch (a.use) {
      case ThinUse::store:
        return launch_rows<T, ThinUse::store>(a, stream, dependent);
      case ThinUse::silu_mul:
        return launch_rows<T, ThinUse::silu_mul>(a, stream, dependent);
      case ThinUse::parts:
        return launch_rows<T, ThinUse::parts>(a, stream, dependent);
    }
  });
}

}  // namespace kvstow::kernels::cuda
