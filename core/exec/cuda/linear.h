// Linear layers on the GPU: cuBLASLt's work, with the choice of algorithm in our hands, or for few
// rows kernels/cuda/thin_product.h's.
#pragma once

#include <cublasLt.h>
#include <cuda_runtime_api.h>

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <vector>

#include "core/exec/cuda/memory.h"
#include "kernels/cuda/thin_product.h"
#include "kernels/kv_cache.h"

namespace kvstow {

// y = x W^T + bias, then what `use` says. Weight [out, in] row-major in the model's dtype; the bias
// is of y's.
struct Linear {
  int in = 0;
  int out = 0;
  const void* weight = nullptr;
  const void* bias = nullptr;  // [out], or none
};

enum class LinearUse : std::uint8_t {
  store,
  store_relu,
  add,       // y += ...: the residual, in f32
  add_join,  // likewise, or y stays and run() says what parts are to be added (join_norm)
  silu_mul,  // y = silu(gate) * up, weights of the gate's outputs first; only where is_thin()
  logits,    // in f32
};

// Which half of a step's rows a product is of, where the halves are computed at the same time: each
// has a place of its own for parts, and thin products leave room for the other half's attention.
enum class Half : std::uint8_t { none, first, second };

// Which algorithms may be used.
enum class LinearMode : std::uint8_t {
  fastest,        // whatever is fast for a number of rows
  deterministic,  // only those that give a row the same bits at every number of rows
  thin,           // fastest, but a thin product wherever there is one: for tests
};

// One stream at a time, but for halves: two, of thin products alone or in the deterministic mode
// (cuBLASLt then uses no workspace). In the fastest mode a number of rows uses what was measured
// for the next larger one, or, beyond those, what cuBLASLt prefers. In the deterministic mode
// probe() comes first.
class LinearRunner {
 public:
  LinearRunner(kernels::DType, LinearMode);
  ~LinearRunner();
  [[nodiscard]] LinearMode mode() const { return mode_; }

  // x: [rows, in], x_stride elements apart; y likewise, in the dtype or f32. Returns the parts that
  // are left to add to y (add_join alone), good until the next run(), or null.
  const float* run(const Linear&, LinearUse, int rows, const void* x, std::int64_t x_stride,
                   void* y, std::int64_t y_stride, cudaStream_t, Half half = Half::none,
                   kernels::cuda::Dependent dependent = kernels::cuda::Dependent::yes);

  // Whether this number of rows uses a thin product: it was measured to be faster or, for halves,
  // there is one.
  [[nodiscard]] bool is_thin(const Linear&, LinearUse, int rows, std::int64_t x_stride,
                             std::int64_t y_stride, Half half = Half::none) const;

  // Deterministic mode: finds algorithms for every number of rows that give a row the same bits.
  // The candidates (one pass over `in`, no reduction between blocks) run on random rows at several
  // sizes; each size keeps the first whose rows are bit for bit those of the reference, the
  // candidate that cuBLASLt prefers at the largest size; more rows than that go in pieces. Throws
  // InputError where there is none.
  void probe(const Linear&, LinearUse, std::int64_t x_stride, std::int64_t y_stride, cudaStream_t);

  // Measures the candidates at this number of rows and keeps the fastest. `weights` are layers of
  // one shape, run in turn, so that they come from memory and not from the cache, each with what
  // `after` launches behind it (given the parts that are left to add). Returns the fastest's
  // seconds, 0 where it was known before. Changes y.
  using After = std::function<void(const float* parts, cudaStream_t)>;
  double tune(const std::vector<const Linear*>& weights, LinearUse, int rows, const void* x,
              std::int64_t x_stride, void* y, std::int64_t y_stride, const After& after,
              cudaStream_t);

  // Likewise measures the thin product, if there is one, and uses it from now on at this number of
  // rows if it takes less than `to_beat` seconds. `instead` launches what the caller has in its
  // place. Returns the faster one's seconds.
  using Instead = std::function<void(const Linear&, cudaStream_t)>;
  double tune_thin(const std::vector<const Linear*>& weights, LinearUse, int rows, const void* x,
                   std::int64_t x_stride, void* y, std::int64_t y_stride, const After& after,
                   double to_beat, cudaStream_t, const Instead& instead = {});

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

  [[nodiscard]] kernels::DType y_dtype(LinearUse) const;
  [[nodiscard]] bool is_thin(const Shape&, Half) const;
  [[nodiscard]] kernels::cuda::ThinProductArgs thin(const Linear&, const Shape&, const void* x,
                                                    void* y, Half half = Half::none) const;
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
  std::map<Shape, Ranges> ranges_;             // tuned or probed, by the shape with rows 0
  std::map<Shape, std::map<int, bool>> thin_;  // likewise: whether the thin product is faster
  DeviceBuffer<float> parts_;
};

}  // namespace kvstow
