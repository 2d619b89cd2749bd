#include "core/exec/cuda/linear.h"

#include <algorithm>
#include <limits>
#include <stdexcept>
#include <string>

#include "core/check.h"
#include "core/exec/cuda/device_tensor.h"
#include "core/exec/cuda/step_kernels.h"
#include "kernels/cuda/cuda_check.h"

namespace kvstow {

using kernels::DType;
using kernels::cuda::ThinUse;

namespace {

constexpr std::size_t kWorkspaceBytes = std::size_t{32} << 20;
constexpr int kCandidates = 8;
constexpr double kTuningSeconds = 0.5e-3;  // of a candidate's passes, of which the fastest counts
constexpr std::size_t kMostPlans = 1024;

void check(cublasStatus_t status, const char* call, const std::string& shape = "") {
  if (status == CUBLAS_STATUS_SUCCESS) return;
  throw kernels::cuda::CudaError(std::string(call) + (shape.empty() ? "" : " [" + shape + "]") +
                                 ": " + cublasLtGetStatusString(status));
}

// Of what `launch` captures. As a graph: launched one by one, small products wait for the host.
double fastest_pass(cudaStream_t stream, const std::function<void(cudaStream_t)>& launch) {
  const Graph pass(stream, launch);
  Event begin;
  Event end;
  double best = 0;
  pass.launch(stream);
  for (double spent = 0; spent < kTuningSeconds;) {
    KVSTOW_CUDA(cudaEventRecord(begin, stream));
    pass.launch(stream);
    KVSTOW_CUDA(cudaEventRecord(end, stream));
    KVSTOW_CUDA(cudaEventSynchronize(end));
    const double time = seconds_between(begin, end);
    spent += time;
    if (best == 0 || time < best) best = time;
  }
  return best;
}

cudaDataType_t type_of(DType dtype) {
  return dtype == DType::f32 ? CUDA_R_32F : dtype == DType::f16 ? CUDA_R_16F : CUDA_R_16BF;
}

}  // namespace

// In cuBLAS's column-major terms: y^T [out, rows] = W [out, in] x^T [in, rows].
struct LinearRunner::Plan {
  Shape shape{};
  cublasLtMatmulDesc_t matmul = nullptr;
  cublasLtMatrixLayout_t w = nullptr;
  cublasLtMatrixLayout_t x = nullptr;
  cublasLtMatrixLayout_t y = nullptr;
  cublasLtMatmulAlgo_t algo{};

  Plan() = default;
  Plan(const Plan&) = delete;
  Plan& operator=(const Plan&) = delete;
  ~Plan() {
    cublasLtMatrixLayoutDestroy(w);
    cublasLtMatrixLayoutDestroy(x);
    cublasLtMatrixLayoutDestroy(y);
    cublasLtMatmulDescDestroy(matmul);
  }
  [[nodiscard]] std::string text() const {
    return std::to_string(shape.rows) + " x " + std::to_string(shape.in) + " -> " +
           std::to_string(shape.out);
  }
};

LinearRunner::LinearRunner(DType dtype, LinearMode mode)
    : dtype_(dtype),
      mode_(mode),
      workspace_(kWorkspaceBytes, "the linear layers' workspace"),
      parts_(0, "a product's parts") {
  check(cublasLtCreate(&handle_), "cublasLtCreate");
}

LinearRunner::~LinearRunner() {
  plans_.clear();
  cublasLtDestroy(handle_);
}

DType LinearRunner::y_dtype(LinearUse use) const {
  const bool f32 = use == LinearUse::add || use == LinearUse::add_join || use == LinearUse::logits;
  return f32 ? DType::f32 : dtype_;
}

std::unique_ptr<LinearRunner::Plan> LinearRunner::describe(const Shape& s) const {
  auto plan = std::make_unique<Plan>();
  plan->shape = s;
  const cudaDataType_t type = type_of(dtype_);
  check(cublasLtMatmulDescCreate(&plan->matmul, CUBLAS_COMPUTE_32F, CUDA_R_32F),
        "cublasLtMatmulDescCreate");
  const auto set = [&](cublasLtMatmulDescAttributes_t attribute, auto value) {
    check(cublasLtMatmulDescSetAttribute(plan->matmul, attribute, &value, sizeof(value)),
          "cublasLtMatmulDescSetAttribute");
  };
  set(CUBLASLT_MATMUL_DESC_TRANSA, CUBLAS_OP_T);
  const bool relu = s.use == LinearUse::store_relu;
  if (relu || s.bias) {
    set(CUBLASLT_MATMUL_DESC_EPILOGUE, !s.bias ? CUBLASLT_EPILOGUE_RELU
                                       : relu  ? CUBLASLT_EPILOGUE_RELU_BIAS
                                               : CUBLASLT_EPILOGUE_BIAS);
  }
  const auto layout = [&](cublasLtMatrixLayout_t* to, cudaDataType_t of, int rows, int columns,
                          std::int64_t stride) {
    check(cublasLtMatrixLayoutCreate(to, of, static_cast<std::uint64_t>(rows),
                                     static_cast<std::uint64_t>(columns), stride),
          "cublasLtMatrixLayoutCreate");
  };
  layout(&plan->w, type, s.in, s.out, s.in);
  layout(&plan->x, type, s.in, s.rows, s.x_stride);
  layout(&plan->y, type_of(y_dtype(s.use)), s.out, s.rows, s.y_stride);
  return plan;
}

std::vector<cublasLtMatmulHeuristicResult_t> LinearRunner::candidates(const Plan& plan,
                                                                      int most) const {
  cublasLtMatmulPreference_t preference = nullptr;
  check(cublasLtMatmulPreferenceCreate(&preference), "cublasLtMatmulPreferenceCreate");
  const auto set = [&](cublasLtMatmulPreferenceAttributes_t attribute, auto value) {
    check(cublasLtMatmulPreferenceSetAttribute(preference, attribute, &value, sizeof(value)),
          "cublasLtMatmulPreferenceSetAttribute");
  };
  const bool fixed = mode_ == LinearMode::deterministic;
  set(CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, fixed ? std::size_t{0} : kWorkspaceBytes);
  if (fixed) {
    set(CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK,
        static_cast<std::uint32_t>(CUBLASLT_REDUCTION_SCHEME_NONE));
  }
  std::vector<cublasLtMatmulHeuristicResult_t> found(static_cast<std::size_t>(most));
  int count = 0;
  const cublasStatus_t status = cublasLtMatmulAlgoGetHeuristic(
      handle_, plan.matmul, plan.w, plan.x, plan.y, plan.y, preference, most, found.data(), &count);
  cublasLtMatmulPreferenceDestroy(preference);
  check(status, "cublasLtMatmulAlgoGetHeuristic", plan.text());
  found.resize(static_cast<std::size_t>(count));
  std::erase_if(found, [&](const auto& f) {
    return f.state != CUBLAS_STATUS_SUCCESS || (fixed && !order_is_fixed(f.algo));
  });
  if (found.empty()) throw std::runtime_error("cuBLASLt has no algorithm for " + plan.text());
  return found;
}

// One pass over `in`, not split.
bool LinearRunner::order_is_fixed(const cublasLtMatmulAlgo_t& algo) const {
  std::int32_t split = 1;
  std::size_t written = 0;
  check(cublasLtMatmulAlgoConfigGetAttribute(&algo, CUBLASLT_ALGO_CONFIG_SPLITK_NUM, &split,
                                             sizeof(split), &written),
        "cublasLtMatmulAlgoConfigGetAttribute");
  return split <= 1;
}

LinearRunner::Plan& LinearRunner::plan(const Shape& shape) {
  // Prompts come in any number of rows. What a plan costs is little beside such a step.
  if (plans_.size() >= kMostPlans && !plans_.contains(shape)) plans_.clear();
  std::unique_ptr<Plan>& known = plans_[shape];
  if (!known) {
    known = describe(shape);
    known->algo = choose(*known);
  }
  return *known;
}

cublasLtMatmulAlgo_t LinearRunner::choose(const Plan& plan) const {
  Shape family = plan.shape;
  family.rows = 0;
  const auto known = ranges_.find(family);
  if (known != ranges_.end()) {
    const Ranges& ranges = known->second;
    const auto range = ranges.lower_bound(plan.shape.rows);
    if (range != ranges.end()) return range->second;
  }
  KVSTOW_CHECK(mode_ != LinearMode::deterministic, "more rows than were probed");
  return candidates(plan, 1).front().algo;
}

void LinearRunner::probe(const Linear& l, LinearUse use, std::int64_t x_stride,
                         std::int64_t y_stride, cudaStream_t stream) {
  Shape shape{l.in, l.out, 0, x_stride, y_stride, use, l.bias != nullptr};
  if (ranges_.contains(shape)) return;
  const std::size_t row_bytes = static_cast<std::size_t>(y_stride) * kernels::size_of(y_dtype(use));
  constexpr int kRows[] = {1, 2, 8, 64, 256, 2048};
  constexpr std::size_t kLargest = std::size_t{512} << 20;  // of y; logits are probed at fewer rows
  std::vector<int> sizes;
  for (const int rows : kRows) {
    if (static_cast<std::size_t>(rows) * row_bytes <= kLargest) sizes.push_back(rows);
  }
  const auto most = static_cast<std::size_t>(sizes.back());
  const DeviceTensor x(static_cast<std::int64_t>(most) * x_stride, dtype_, "probing");
  DeviceBuffer<unsigned char> y(most * row_bytes, "probing");
  fill_uniform_weights(x.get(), x.elements(), dtype_, 1, 0, 1, stream);
  const auto rows_of = [&](Plan& plan, const cublasLtMatmulAlgo_t& algo) {
    KVSTOW_CUDA(cudaMemsetAsync(y.get(), 0, y.size(), stream));
    run(plan, algo, l, x.get(), y.get(), stream);
    std::vector<unsigned char> bits(static_cast<std::size_t>(plan.shape.rows) * row_bytes);
    KVSTOW_CUDA(cudaStreamSynchronize(stream));
    KVSTOW_CUDA(cudaMemcpy(bits.data(), y.get(), bits.size(), cudaMemcpyDeviceToHost));
    return bits;
  };
  shape.rows = sizes.back();
  const auto largest = describe(shape);
  const auto best = candidates(*largest, 1).front().algo;
  const std::vector<unsigned char> reference = rows_of(*largest, best);
  Ranges ranges;
  for (const int rows : sizes) {
    shape.rows = rows;
    const auto plan = describe(shape);
    std::vector<cublasLtMatmulAlgo_t> algorithms;
    for (const auto& candidate : candidates(*plan, kCandidates)) {
      algorithms.push_back(candidate.algo);
    }
    algorithms.push_back(best);  // it may serve any number of rows
    const auto agrees = std::find_if(algorithms.begin(), algorithms.end(), [&](const auto& algo) {
      const std::vector<unsigned char> bits = rows_of(*plan, algo);
      return std::equal(bits.begin(), bits.end(), reference.begin());
    });
    if (agrees == algorithms.end()) {
      throw InputError("deterministic: cuBLASLt has no algorithm for " + plan->text() +
                       " whose rows are those of " + largest->text());
    }
    ranges[rows] = *agrees;
  }
  shape.rows = 0;
  ranges_[shape] = std::move(ranges);
}

void LinearRunner::run(Plan& plan, const cublasLtMatmulAlgo_t& algo, const Linear& l, const void* x,
                       void* y, cudaStream_t stream) {
  if (l.bias != nullptr) {
    check(cublasLtMatmulDescSetAttribute(plan.matmul, CUBLASLT_MATMUL_DESC_BIAS_POINTER, &l.bias,
                                         sizeof(l.bias)),
          "cublasLtMatmulDescSetAttribute");
  }
  const float one = 1;
  const float beta = plan.shape.use == LinearUse::add ? 1 : 0;
  check(cublasLtMatmul(handle_, plan.matmul, &one, l.weight, plan.w, x, plan.x, &beta, y, plan.y, y,
                       plan.y, &algo, workspace_.get(), kWorkspaceBytes, stream),
        "cublasLtMatmul", plan.text());
}

const float* LinearRunner::run(const Linear& l, LinearUse use, int rows, const void* x,
                               std::int64_t x_stride, void* y, std::int64_t y_stride,
                               cudaStream_t stream, Half half, kernels::cuda::Dependent dependent) {
  Shape shape{l.in, l.out, rows, x_stride, y_stride, use, l.bias != nullptr};
  if (is_thin(shape, half)) {
    const auto product = thin(l, shape, x, y, half);
    kernels::cuda::thin_product(product, stream, dependent);
    return product.use == ThinUse::parts ? static_cast<const float*>(product.y) : nullptr;
  }
  KVSTOW_CHECK(half == Half::none || mode_ == LinearMode::deterministic,
               "halves with products that share a workspace");
  KVSTOW_CHECK(use != LinearUse::silu_mul, "a fused product that was not measured");
  if (use == LinearUse::add_join) shape.use = LinearUse::add;
  shape.rows = 0;
  const int most = most_rows(shape);
  const auto element = static_cast<std::int64_t>(kernels::size_of(dtype_));
  const auto y_element = static_cast<std::int64_t>(kernels::size_of(y_dtype(use)));
  for (int first = 0; first < rows; first += most) {
    shape.rows = std::min(rows - first, most);
    Plan& known = plan(shape);
    run(known, known.algo, l, static_cast<const unsigned char*>(x) + first * x_stride * element,
        static_cast<unsigned char*>(y) + first * y_stride * y_element, stream);
  }
  return nullptr;
}

bool LinearRunner::is_thin(const Linear& l, LinearUse use, int rows, std::int64_t x_stride,
                           std::int64_t y_stride, Half half) const {
  return is_thin(Shape{l.in, l.out, rows, x_stride, y_stride, use, l.bias != nullptr}, half);
}

bool LinearRunner::is_thin(const Shape& shape, Half half) const {
  Shape family = shape;
  family.rows = 0;
  const auto known = thin_.find(family);
  if (known == thin_.end()) return false;
  const auto range = known->second.lower_bound(shape.rows);
  if (range == known->second.end()) return false;
  if (half == Half::none) return range->second;
  return has_thin_product(thin({.in = shape.in, .out = shape.out}, shape, nullptr, nullptr, half));
}

kernels::cuda::ThinProductArgs LinearRunner::thin(const Linear& l, const Shape& shape,
                                                  const void* x, void* y, Half half) const {
  const bool parts = shape.use == LinearUse::add_join;
  float* const own_parts = parts_.get() + (half == Half::second ? parts_.size() / 2 : 0);
  return {.use = parts                              ? ThinUse::parts
                 : shape.use == LinearUse::silu_mul ? ThinUse::silu_mul
                                                    : ThinUse::store,
          .rows = shape.rows,
          .in = l.in,
          .out = l.out,
          .x = x,
          .x_stride = shape.x_stride,
          .weight = l.weight,
          .y = parts ? own_parts : y,
          .y_stride = shape.y_stride,
          .dtype = dtype_,
          .beside_attention = half != Half::none};
}

// In one launch: as many as were probed, so that none meets an algorithm that was not.
int LinearRunner::most_rows(const Shape& family) const {
  if (mode_ != LinearMode::deterministic) return std::numeric_limits<int>::max();
  const auto known = ranges_.find(family);
  KVSTOW_CHECK(known != ranges_.end(), "a linear layer that was never probed");
  return known->second.rbegin()->first;
}

double LinearRunner::tune(const std::vector<const Linear*>& weights, LinearUse use, int rows,
                          const void* x, std::int64_t x_stride, void* y, std::int64_t y_stride,
                          const After& after, cudaStream_t stream) {
  if (mode_ == LinearMode::deterministic) return 0;
  const Linear& first = *weights.front();
  Shape shape{first.in, first.out, 0, x_stride, y_stride, use, first.bias != nullptr};
  Ranges& ranges = ranges_[shape];
  if (ranges.contains(rows)) return 0;
  shape.rows = rows;
  const auto measured = describe(shape);
  double best = 0;
  for (const auto& candidate : candidates(*measured, kCandidates)) {
    const double time = fastest_pass(stream, [&](cudaStream_t capturing) {
      for (const Linear* l : weights) {
        run(*measured, candidate.algo, *l, x, y, capturing);
        after(nullptr, capturing);
      }
    });
    if (best == 0 || time < best) {
      best = time;
      ranges[rows] = candidate.algo;
    }
  }
  return best;
}

double LinearRunner::tune_thin(const std::vector<const Linear*>& weights, LinearUse use, int rows,
                               const void* x, std::int64_t x_stride, void* y, std::int64_t y_stride,
                               const After& after, double to_beat, cudaStream_t stream,
                               const Instead& instead) {
  const Linear& first = *weights.front();
  const Shape shape{first.in, first.out, rows, x_stride, y_stride, use, first.bias != nullptr};
  auto product = thin(first, shape, x, y);
  if (to_beat == 0 || shape.bias || !has_thin_product(product)) return to_beat;
  const bool parts = product.use == ThinUse::parts;
  const auto floats = std::size_t{kernels::cuda::kThinParts} * kernels::cuda::kMostThinRows *
                      static_cast<std::size_t>(first.out);
  // Before any graph is captured that holds the address: one that grew would leave it behind.
  KVSTOW_CHECK(!parts || parts_.size() == 0 || parts_.size() >= floats, "parts of several widths");
  if (parts && parts_.size() == 0) parts_ = {floats, "a product's parts"};
  const double time = fastest_pass(stream, [&](cudaStream_t capturing) {
    for (const Linear* l : weights) {
      product = thin(*l, shape, x, y);
      instead ? instead(*l, capturing)
              : kernels::cuda::thin_product(product, capturing, kernels::cuda::Dependent::yes);
      after(parts ? parts_.get() : nullptr, capturing);
    }
  });
  Shape family = shape;
  family.rows = 0;
  thin_[family][rows] = time < to_beat || mode_ == LinearMode::thin;
  return std::min(time, to_beat);
}

}  // namespace kvstow
