// What the GPU tests and benchmarks share: device memory, random K and V written through a map,
// and attention in double precision.
#pragma once

#include <cuda_runtime_api.h>

#include <cstdint>
#include <cstdlib>
#include <memory>
#include <span>
#include <vector>

#include "kernels/cuda/cuda_check.h"
#include "kernels/kernels.h"

namespace kvstow::kernels::cuda::testing {

bool have_device();

// How many random shapes or plans a test tries: a number in the environment, or the default.
inline int from_environment(const char* variable, int otherwise) {
  const char* text = std::getenv(variable);
  return text ? std::atoi(text) : otherwise;
}

struct CudaFree {
  void operator()(void* p) const { cudaFree(p); }
};

// `count` elements of device memory.
template <class E>
class DeviceArray {
 public:
  DeviceArray() = default;
  explicit DeviceArray(std::size_t count) : count_(count) {
    void* p = nullptr;
    KVSTOW_CUDA_SHAPE(cudaMalloc(&p, count > 0 ? count * sizeof(E) : 1),
                      std::to_string(count * sizeof(E)) + " bytes");
    data_.reset(static_cast<E*>(p));
  }
  explicit DeviceArray(std::span<const E> host) : DeviceArray(host.size()) {
    KVSTOW_CUDA(cudaMemcpy(get(), host.data(), host.size_bytes(), cudaMemcpyHostToDevice));
    // From pageable memory the call may return before the last bytes have arrived, and a stream
    // that does not wait for the default one would read what was there before.
    KVSTOW_CUDA(cudaStreamSynchronize(nullptr));
  }
  explicit DeviceArray(const std::vector<E>& host) : DeviceArray(std::span<const E>(host)) {}

  [[nodiscard]] E* get() const { return data_.get(); }
  [[nodiscard]] std::size_t size() const { return count_; }
  [[nodiscard]] std::vector<E> host() const {
    std::vector<E> out(count_);
    KVSTOW_CUDA(cudaMemcpy(out.data(), get(), count_ * sizeof(E), cudaMemcpyDeviceToHost));
    return out;
  }
  void fill_bytes(int byte) {
    KVSTOW_CUDA(cudaMemset(get(), byte, count_ * sizeof(E)));
    KVSTOW_CUDA(cudaStreamSynchronize(nullptr));
  }

 private:
  std::unique_ptr<E, CudaFree> data_;
  std::size_t count_ = 0;
};

// Uniform numbers of mean 0 and the given standard deviation, a function of (seed, index) only.
void fill_uniform(void* to, std::size_t count, DType dtype, float deviation, std::uint64_t seed,
                  cudaStream_t stream);

// Writes K and V of positions [0, length[r]) of every map row r, a function of (seed, layer, r,
// position, head, dimension) only: the same tokens whatever the map. Everything else is untouched.
template <class Map>
void fill_kv(const KvPool& pool, const Map& map, const std::int32_t* length, int map_rows,
             std::uint64_t seed, cudaStream_t stream);

// softmax(scale q K^T) V in double precision, out as double [rows, heads, head_dim].
// scratch: double[rows * heads * max_length].
template <class Map>
void decode_in_double(const DecodeAttentionArgs<Map>& args, int max_length, double* scratch,
                      double* out, cudaStream_t stream);

// ||a - b|| / ||b|| over all elements; a of dtype. NaN anywhere gives NaN.
double relative_l2(const void* a, DType dtype, const double* b, std::size_t count);

}  // namespace kvstow::kernels::cuda::testing
