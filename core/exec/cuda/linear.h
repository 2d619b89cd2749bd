// Linear layers on the GPU: cuBLASLt's work, with the choice of algorithm in our hands.
#pragma once

#include <cublasLt.h>
#include <cuda_runtime_api.h>

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <vector>

#include "core/exec/cuda/memory.h"
#include "kernels/kv_cache.h"

namespace kvstow {

// y = x W^T + bias, then what `use` says. Weight [out, in] row-major in the model's dtype.
struct Linear {
  int in = 0;
  int out = 0;
  const void* weight = nullptr;
  const void* bias = nullptr;  // [out], or none
};

enum class LinearUse : std::uint8_t {
  store,
  store_relu,
  add,     // y += ...: the residual
  logits,  // stored as f32
};

// Which algorithms may be used.
enum class LinearMode : std::uint8_t {
  fastest,        // whatever is fast for a number of rows
  deterministic,  // only those that give a row the same bits at every number of rows
};

// One stream at a time. In the fastest mode a number of rows uses what tune() measured for the next
// larger one, or, beyond those, what cuBLASLt prefers. In the deterministic mode probe() comes
// first.
class LinearRunner {
 public:
  LinearRunner(kernels::DType, LinearMode);
  ~LinearRunner();

  // x: [rows, in], x_stride elements apart; y likewise, of the dtype or f32.
  void run(const Linear&, LinearUse, int rows, const void* x, std::int64_t x_stride, void* y,
           std::int64_t y_stride, cudaStream_t);

  // Deterministic mode: finds algorithms for every number of rows that give a row the same bits.
  // The candidates (one pass over `in`, no reduction between blocks) run on random rows at several
  // sizes; each size keeps the first whose rows are bit for bit those of the reference, the
  // candidate that cuBLASLt prefers at the largest size; more rows than that go in pieces. Throws
  // InputError where there is none.
  void probe(const Linear&, LinearUse, std::int64_t x_stride, std::int64_t y_stride, cudaStream_t);

  // Measures the candidates at this number of rows and keeps the fastest. `weights` are layers of
  // one shape, run in turn, so that they come from memory and not from the cache, each with what
  // `after` launches behind it. Changes y.
  void tune(const std::vector<const Linear*>& weights, LinearUse, int rows, const void* x,
            std::int64_t x_stride, void* y, std::int64_t y_stride,
            const std::function<void(cudaStream_t)>& after, cudaStream_t);

 private:
  struct Shape {
    int in, out, rows;
    std::int64_t x_stride, y_stride;
    LinearUse use;
    bool bias;
    auto operator<=>(const Shape&) const = default;
  };
  struct Plan;
  using Ranges = std::map<int, cublasLtMatmulAlgo_t>;  // by the largest number of rows each serves

  [[nodiscard]] int most_rows(const Shape& family) const;
  [[nodiscard]] cublasLtMatmulAlgo_t choose(const Plan&) const;
  [[nodiscard]] Plan& plan(const Shape&);
  [[nodiscard]] std::unique_ptr<Plan> describe(const Shape&) const;
  [[nodiscard]] std::vector<cublasLtMatmulHeuristicResult_t> candidates(const Plan&,
                                                                        int most) const;
  [[nodiscard]] bool order_is_fixed(const cublasLtMatmulAlgo_t&) const;
  void run(Plan&, const cublasLtMatmulAlgo_t&, const Linear&, const void* x, void* y, cudaStream_t);

  kernels::DType dtype_;
  LinearMode mode_;
  cublasLtHandle_t handle_ = nullptr;
  DeviceBuffer<unsigned char> workspace_;
  std::map<Shape, std::unique_ptr<Plan>> plans_;
  std::map<Shape, Ranges> ranges_;  // tuned or probed, by the shape with rows 0
};

}  // namespace kvstow
