#include <algorithm>

#include "kernels/cuda/decode_attention.h"
#include "kernels/cuda/launch.h"
#include "kernels/cuda/thin_product.cuh"
#include "kernels/cuda/thin_product.h"

namespace kvstow::kernels::cuda {
namespace {

constexpr int kOutputs = 64;  // of a thin block: one warpgroup's

// A wide block has as many outputs as leave one block to a multiprocessor. Of gate and up they are
// so many that registers hold the sums of more than 128 rows only where three warpgroups share the
// rows.
constexpr int kMostWideRows = 224;
constexpr int kRowsFirst = 192;
constexpr int kMostOfRowsFirst = 224;  // outputs

constexpr bool rows_first(ThinUse use, bool wide, int rows) {
  return wide && use == ThinUse::silu_mul && rows == kRowsFirst;
}

constexpr int groups_of(ThinUse use, bool wide, int rows) {
  if (rows_first(use, wide, rows)) return kRowsFirst / 64;
  return !wide || use == ThinUse::store ? 1 : use == ThinUse::parts ? 2 : 4;
}

constexpr int panels_of(ThinUse use, bool wide, int rows) {  // few stages where they are small
  if (wide) return use == ThinUse::store && rows <= 32 ? 2 : 1;
  return rows <= 32 ? 4 : rows < 128 ? 2 : 1;
}

struct Params {
  thin::Operands operands;  // W: 2 halves, groups of 16 rows
  void* y;
  int rows;
  int out;
  std::int64_t y_stride;
};

// Some outputs, kRows rows, one part of `in`.
template <class T, int kRows, ThinUse kUse, bool kWide>
struct ThinBody {
  static constexpr bool kFirst = rows_first(kUse, kWide, kRows);
  using Pipe = thin::Pipe<T, kRows, groups_of(kUse, kWide, kRows), panels_of(kUse, kWide, kRows),
                          kWide, kFirst ? kMostOfRowsFirst : 0>;
  using Sums = typename Pipe::Sums;

  const Params& p;
  int tile = static_cast<int>(blockIdx.x);
  int row0 = static_cast<int>(blockIdx.y) * kRows;
  int outputs = kWide ? p.operands.outputs : kOutputs;

  static __device__ float silu_mul(float gate, float up) {
    return gate / (1.0f + __expf(-gate)) * up;
  }

  // Eight rows of the warp's sixteen outputs, as the tensor cores leave them.
  __device__ void write(int row, float s0, float s1, float s2, float s3) const {
    const int lane = static_cast<int>(threadIdx.x) % 32;
    const int warp = static_cast<int>(threadIdx.x) / 32;
    if constexpr (kUse == ThinUse::parts) {
      row += lane % 4 * 2;
      float* to = static_cast<float*>(p.y) + (std::int64_t{blockIdx.z} * p.rows + row) * p.out +
                  tile * outputs + warp * 16 + lane / 4;
      if (row < p.rows) to[0] = s0, to[8] = s2;
      if (row + 1 < p.rows) to[p.out] = s1, to[p.out + 8] = s3;
      return;
    }
    row += lane / 4;
    T* to = static_cast<T*>(p.y) + row * p.y_stride + lane % 4 * 2;
    if constexpr (kUse == ThinUse::silu_mul) {  // of every 16 rows of W here, 8 are up's
      const std::uint32_t y = ptx::transpose8x8(ptx::pack<T>(silu_mul(s0, s2), silu_mul(s1, s3)));
      to += tile * (outputs / 2) + warp * 8;
      if (row < p.rows) *reinterpret_cast<std::uint32_t*>(to) = y;
    } else {
      const std::uint32_t low = ptx::transpose8x8(ptx::pack<T>(s0, s1));
      const std::uint32_t high = ptx::transpose8x8(ptx::pack<T>(s2, s3));
      to += tile * outputs + warp * 16;
      if (row >= p.rows) return;
      reinterpret_cast<std::uint32_t*>(to)[0] = low;
      reinterpret_cast<std::uint32_t*>(to)[4] = high;
    }
  }

  __device__ void finish(const Sums& sum) const {
    if (kWide && static_cast<int>(threadIdx.x) / 32 * 16 >= outputs) return;
#pragma unroll
    for (int n = 0; n < kRows / 8; ++n) {
      constexpr int kEach = Pipe::kEach;
      const int row = row0 + n * 8;
      const float* s = &sum[n * 8 / kEach][n * 8 % kEach / 2];
      if (row < p.rows) write(row, s[0], s[1], s[2], s[3]);
    }
  }

  // Of gate and up, where rows are M: of every 16 outputs 8 are up's.
  __device__ void finish_rows_first(const Sums& sum) const {
    const int lane = static_cast<int>(threadIdx.x) % 32;
    const int warp = static_cast<int>(threadIdx.x) / 32;
#pragma unroll
    for (int h = 0; h < 2; ++h) {
      const int row = row0 + warp * 16 + h * 8 + lane / 4;
      if (row >= p.rows) continue;
      T* to = static_cast<T*>(p.y) + row * p.y_stride + tile * (outputs / 2) + lane % 4 * 2;
#pragma unroll
      for (int n = 0; n < kMostOfRowsFirst / 16; ++n) {
        if (n * 16 >= outputs) break;
        constexpr int kEach = Pipe::kEach / 16;
        const float* gate = &sum[n / kEach][n % kEach * 8 + h * 2];
        const float* up = gate + 4;
        reinterpret_cast<std::uint32_t*>(to)[n * 4] =
            ptx::pack<T>(silu_mul(gate[0], up[0]), silu_mul(gate[1], up[1]));
      }
    }
  }

  __device__ void run(std::uint32_t data, thin::Barriers& barriers) const {
    const int first = static_cast<int>(blockIdx.z) * p.operands.stages * (Pipe::kColumns / 64);
    const Pipe pipe{p.operands, data, barriers, 0, tile * (outputs / 16), row0, first};
    pipe.run([] {},
             [&](const Sums& sum) {
               if constexpr (kFirst) {
                 finish_rows_first(sum);
               } else {
                 finish(sum);
               }
             });
  }
};

template <class T, int kRows, ThinUse kUse, bool kWide>
__global__ void __launch_bounds__(ThinBody<T, kRows, kUse, kWide>::Pipe::kThreads, 1)
    thin_product_kernel(const __grid_constant__ Params p) {
#if __CUDA_ARCH_FEAT_SM90_ALL
  extern __shared__ unsigned char raw[];
  __shared__ thin::Barriers barriers;
  const std::uint32_t data = ptx::shared_address(raw);
  ThinBody<T, kRows, kUse, kWide>{p}.run(
      (data + thin::kAlignment - 1) / thin::kAlignment * thin::kAlignment, barriers);
#endif
}

int parts_of(ThinUse use) {
  return use == ThinUse::parts ? kThinParts : 1;
}

// Rows of a block: blocks of equally many, rounded up to what has a body.
int block_rows(int rows) {
  const int blocks = (rows + thin::kMostRows - 1) / thin::kMostRows;
  const int each = (rows + blocks - 1) / blocks;
  for (const int n : {8, 16, 32, 64, 96}) {
    if (each <= n) return n;
  }
  return thin::kMostRows;
}

// Where thin blocks have no room for their W, or would come in several waves.
bool is_wide(const ThinProductArgs& a) {
  const int parts = parts_of(a.use);
  return a.in / parts > thin::kThinColumns || a.out / kOutputs * parts > device_blocks();
}

// Of a block; 0 where no number divides them.
int block_outputs(const ThinProductArgs& a) {
  if (!is_wide(a)) return a.out % kOutputs == 0 ? kOutputs : 0;
  const int most_tiles = device_blocks() / parts_of(a.use);
  const int most = std::min(groups_of(a.use, true, 1) * 64, kMostOfRowsFirst);
  for (int n = 16; n <= most; n += 16) {
    if (a.out % n == 0 && a.out / n <= most_tiles) return n;
  }
  return 0;
}

template <class Pipe>
Params describe(const ThinProductArgs& a) {
  const auto in = static_cast<std::uint64_t>(a.in);
  const auto out = static_cast<std::uint64_t>(a.out);
  const std::uint64_t row = in * 2;
  const bool halves = a.use == ThinUse::silu_mul;
  const int outputs = block_outputs(a);
  const int stages = a.in / Pipe::kColumns / parts_of(a.use);
  const int room = a.beside_attention ? thin::kSharedBytes / 2 : thin::kSharedBytes;
  const int ring = std::min({stages, Pipe::ring(outputs, room), thin::kMostStages});
  return {
      .operands = {.w = make_tensor_map(a.weight, a.dtype,
                                        {.extent = {in, 8, 2, out / 16},
                                         .stride_bytes = {row, row * (halves ? out / 2 : 8),
                                                          row * (halves ? 8 : 16)},
                                         .box = {8, 2, static_cast<std::uint32_t>(outputs / 16)}}),
                   .x = thin::map_of_x(a.x, a.x_stride, a.in, a.rows, a.dtype, Pipe::kRowsOfX,
                                       Pipe::kColumns / 64),
                   .outputs = outputs,
                   .stages = stages,
                   .ring = ring,
                   .early = is_wide(a) ? (3 * ring + 3) / 4 : ring},
      .y = a.y,
      .rows = a.rows,
      .out = a.out,
      .y_stride = a.y_stride};
}

template <class T, int kRows, ThinUse kUse, bool kWide>
void launch_body(const ThinProductArgs& a, cudaStream_t stream, Dependent dependent) {
  using Pipe = typename ThinBody<T, kRows, kUse, kWide>::Pipe;
  const Params p = describe<Pipe>(a);
  const auto kernel = thin_product_kernel<T, kRows, kUse, kWide>;
  static const cudaError_t raised = cudaFuncSetAttribute(
      kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, thin::kSharedBytes + thin::kAlignment);
  check(raised, "cudaFuncSetAttribute", "thin_product");
  launch("thin_product", kernel,
         {.grid = dim3(static_cast<unsigned>(a.out / p.operands.outputs),
                       static_cast<unsigned>((a.rows + kRows - 1) / kRows),
                       static_cast<unsigned>(parts_of(kUse))),
          .block = Pipe::kThreads,
          .shared_bytes = Pipe::shared_bytes(p.operands),
          .dependent = dependent == Dependent::yes},
         stream, p);
}

template <class T, ThinUse kUse, bool kWide>
void launch_rows(const ThinProductArgs& a, cudaStream_t stream, Dependent dependent) {
  // Where one block for more rows than others take is faster than two.
  const bool many = a.rows > thin::kMostRows;
  if constexpr (kWide && kUse == ThinUse::silu_mul) {
    if (many && a.rows <= kRowsFirst) {
      return launch_body<T, kRowsFirst, kUse, kWide>(a, stream, dependent);
    }
  } else if constexpr (kWide) {
    if (many && a.rows <= 160) return launch_body<T, 160, kUse, kWide>(a, stream, dependent);
    if (many && a.rows <= 192) return launch_body<T, 192, kUse, kWide>(a, stream, dependent);
    if (many && a.rows <= kMostWideRows) {
      return launch_body<T, kMostWideRows, kUse, kWide>(a, stream, dependent);
    }
  } else if constexpr (kUse == ThinUse::silu_mul) {
    // So many outputs that two blocks for each 64 would come in two waves.
    if (many && a.rows <= 192) return launch_body<T, 192, kUse, kWide>(a, stream, dependent);
    if (many) return launch_body<T, kMostThinRows, kUse, kWide>(a, stream, dependent);
  }
  switch (block_rows(a.rows)) {
    case 8:
      return launch_body<T, 8, kUse, kWide>(a, stream, dependent);
    case 16:
      return launch_body<T, 16, kUse, kWide>(a, stream, dependent);
    case 32:
      return launch_body<T, 32, kUse, kWide>(a, stream, dependent);
    case 64:
      return launch_body<T, 64, kUse, kWide>(a, stream, dependent);
    case 96:
      return launch_body<T, 96, kUse, kWide>(a, stream, dependent);
    default:
      return launch_body<T, thin::kMostRows, kUse, kWide>(a, stream, dependent);
  }
}

template <class T, ThinUse kUse>
void launch_use(const ThinProductArgs& a, cudaStream_t stream, Dependent dependent) {
  is_wide(a) ? launch_rows<T, kUse, true>(a, stream, dependent)
             : launch_rows<T, kUse, false>(a, stream, dependent);
}

}  // namespace

bool has_thin_product([[maybe_unused]] const ThinProductArgs& a) {
#ifdef KVSTOW_SM_90A
  const int parts = parts_of(a.use);
  // Whatever the rows: so that fewer rows than were asked about have a body too.
  const bool wide = is_wide(a);
  return a.dtype != DType::f32 && a.rows >= 1 && a.rows <= kMostThinRows && block_outputs(a) > 0 &&
         a.in % (64 * panels_of(a.use, wide, 1) * parts) == 0 && !(wide && a.beside_attention) &&
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
        return launch_use<T, ThinUse::store>(a, stream, dependent);
      case ThinUse::silu_mul:
        return launch_use<T, ThinUse::silu_mul>(a, stream, dependent);
      case ThinUse::parts:
        return launch_use<T, ThinUse::parts>(a, stream, dependent);
    }
  });
}

}  // namespace kvstow::kernels::cuda
