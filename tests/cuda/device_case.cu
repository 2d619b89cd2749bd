#include "tests/cuda/device_case.h"

#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include <cmath>

namespace kvstow::kernels::cuda::testing {
namespace {

__host__ __device__ std::uint64_t mix(std::uint64_t x) {
  x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9ULL;
  x = (x ^ (x >> 27)) * 0x94d049bb133111ebULL;
  return x ^ (x >> 31);
}

// Uniform of mean 0 and variance 1.
__device__ float uniform(std::uint64_t bits) {
  return (static_cast<float>(bits >> 40) * 0x1p-24f - 0.5f) * 3.4641016f;
}

__device__ void store(void* to, std::int64_t i, DType dtype, float x) {
  if (dtype == DType::f16) {
    static_cast<__half*>(to)[i] = __float2half_rn(x);
  } else if (dtype == DType::bf16) {
    static_cast<__nv_bfloat16*>(to)[i] = __float2bfloat16_rn(x);
  } else {
    static_cast<float*>(to)[i] = x;
  }
}

__device__ double load(const void* from, std::int64_t i, DType dtype) {
  if (dtype == DType::f16) return __half2float(static_cast<const __half*>(from)[i]);
  if (dtype == DType::bf16) return __bfloat162float(static_cast<const __nv_bfloat16*>(from)[i]);
  return static_cast<const float*>(from)[i];
}

__global__ void uniform_kernel(void* to, std::int64_t count, DType dtype, float deviation,
                               std::uint64_t seed) {
  for (std::int64_t i = blockIdx.x * std::int64_t{blockDim.x} + threadIdx.x; i < count;
       i += std::int64_t{gridDim.x} * blockDim.x) {
    store(to, i, dtype, deviation * uniform(mix(seed ^ mix(i + 1))));
  }
}

template <class Map>
__global__ void kv_kernel(KvPool pool, Map map, const std::int32_t* length, std::uint64_t seed) {
  const KvLayout& layout = pool.layout;
  const int row = blockIdx.y;
  const std::int64_t width = layout.slot_stride();
  for (int position = blockIdx.x; position < length[row]; position += gridDim.x) {
    const std::int64_t slot = map.slot(row, position);
    for (int layer = 0; layer < layout.layers; ++layer) {
      for (int part = 0; part < 2; ++part) {
        const std::uint64_t key = mix(
            seed + mix(((std::uint64_t(row) << 32) | unsigned(position)) * 2 + part) + layer * 77);
        for (std::int64_t i = threadIdx.x; i < width; i += blockDim.x) {
          store(pool.data, layout.part_offset(layer, part) + slot * width + i, layout.dtype,
                uniform(mix(key + i)));
        }
      }
    }
  }
}

__device__ double block_reduce(double x, bool maximum) {
  __shared__ double parts[32];
  __syncthreads();
  for (int offset = 16; offset > 0; offset /= 2) {
    const double y = __shfl_xor_sync(0xffffffffu, x, offset);
    x = maximum ? fmax(x, y) : x + y;
  }
  if (threadIdx.x % 32 == 0) parts[threadIdx.x / 32] = x;
  __syncthreads();
  x = parts[0];
  for (unsigned w = 1; w < blockDim.x / 32; ++w) x = maximum ? fmax(x, parts[w]) : x + parts[w];
  return x;
}

template <class Map>
__global__ void double_kernel(DecodeAttentionArgs<Map> a, int max_length, double* scratch,
                              double* out) {
  const KvLayout& layout = a.pool.layout;
  const int dim = layout.head_dim;
  const int row = blockIdx.x;
  const int head = blockIdx.y;
  const int kv_head = head / (a.heads / layout.kv_heads);
  const int length = a.length[row];
  double* p = scratch + (std::int64_t{row} * a.heads + head) * max_length;
  const auto at = [&](int part, int t) {
    return layout.part_offset(a.layer, part) + a.map.slot(a.map_row[row], t) * layout.slot_stride() +
           std::int64_t{kv_head} * dim;
  };
  double largest = -INFINITY;
  for (int t = threadIdx.x; t < length; t += blockDim.x) {
    const std::int64_t k = at(0, t);
    double dot = 0;
    for (int d = 0; d < dim; ++d) {
      dot += load(a.q, row * a.q_stride + head * dim + d, a.dtype) *
             load(a.pool.data, k + d, layout.dtype);
    }
    p[t] = dot * double{a.scale};
    largest = fmax(largest, p[t]);
  }
  largest = block_reduce(largest, true);
  double sum = 0;
  for (int t = threadIdx.x; t < length; t += blockDim.x) sum += p[t] = exp(p[t] - largest);
  sum = block_reduce(sum, false);
  for (int d = threadIdx.x; d < dim; d += blockDim.x) {
    double acc = 0;
    for (int t = 0; t < length; ++t) acc += p[t] * load(a.pool.data, at(1, t) + d, layout.dtype);
    out[(std::int64_t{row} * a.heads + head) * dim + d] = length == 0 ? 0.0 : acc / sum;
  }
}

}  // namespace

bool have_device() {
  int count = 0;
  return cudaGetDeviceCount(&count) == cudaSuccess && count > 0;
}

void fill_uniform(void* to, std::size_t count, DType dtype, float deviation, std::uint64_t seed,
                  cudaStream_t stream) {
  uniform_kernel<<<1056, 256, 0, stream>>>(to, static_cast<std::int64_t>(count), dtype, deviation,
                                           mix(seed));
  KVSTOW_CUDA(cudaGetLastError());
}

template <class Map>
void fill_kv(const KvPool& pool, const Map& map, const std::int32_t* length, int map_rows,
             std::uint64_t seed, cudaStream_t stream) {
  if (map_rows == 0) return;
  kv_kernel<<<dim3(64, map_rows), 256, 0, stream>>>(pool, map, length, mix(seed));
  KVSTOW_CUDA(cudaGetLastError());
}

template <class Map>
void decode_in_double(const DecodeAttentionArgs<Map>& a, int max_length, double* scratch,
                      double* out, cudaStream_t stream) {
  double_kernel<<<dim3(a.rows, a.heads), 128, 0, stream>>>(a, max_length, scratch, out);
  KVSTOW_CUDA(cudaGetLastError());
}

template void fill_kv(const KvPool&, const AffineMap&, const std::int32_t*, int, std::uint64_t,
                      cudaStream_t);
template void fill_kv(const KvPool&, const BlockTableMap&, const std::int32_t*, int, std::uint64_t,
                      cudaStream_t);
template void decode_in_double(const DecodeAttentionArgs<AffineMap>&, int, double*, double*,
                               cudaStream_t);
template void decode_in_double(const DecodeAttentionArgs<BlockTableMap>&, int, double*, double*,
                               cudaStream_t);

double relative_l2(const void* a, DType dtype, const double* b, std::size_t count) {
  std::vector<std::uint16_t> raw(count);
  std::vector<double> reference(count);
  KVSTOW_CUDA(cudaMemcpy(raw.data(), a, count * 2, cudaMemcpyDeviceToHost));
  KVSTOW_CUDA(cudaMemcpy(reference.data(), b, count * 8, cudaMemcpyDeviceToHost));
  double difference = 0;
  double norm = 0;
  for (std::size_t i = 0; i < count; ++i) {
    float x = 0;
    if (dtype == DType::f16) {
      x = __half2float(__half(__half_raw{raw[i]}));
    } else {
      x = __bfloat162float(__nv_bfloat16(__nv_bfloat16_raw{raw[i]}));
    }
    difference += (x - reference[i]) * (x - reference[i]);
    norm += reference[i] * reference[i];
  }
  return norm == 0 ? std::sqrt(difference) : std::sqrt(difference / norm);
}

}  // namespace kvstow::kernels::cuda::testing
