// A decode step in two halves that run at the same time.
#include "core/check.h"
#include "core/exec/cuda/cuda_transformer.h"
#include "kernels/cuda/cuda_check.h"

namespace kvstow {
namespace {

// Where halves begin to be faster, by the table in README.md: from so many rows on, where a layer's
// K and V take so many times as long to read at the memory's peak rate as its products of half the
// rows were measured to take.
constexpr double kChainsPerHalves = 2.25;
constexpr int kLeastHalvedRows = 128;

// Bytes a second.
double peak_memory_rate() {
  int khz = 0;
  int bits = 0;
  KVSTOW_CUDA(cudaDeviceGetAttribute(&khz, cudaDevAttrMemoryClockRate, 0));
  KVSTOW_CUDA(cudaDeviceGetAttribute(&bits, cudaDevAttrGlobalMemoryBusWidth, 0));
  return 2e3 * khz * bits / 8;  // double data rate
}

}  // namespace

void CudaTransformer::forward_halves(const DeviceRows& rows, const kernels::cuda::StepBegin& begin,
                                     const kernels::KvPool& pool, Workspace& work,
                                     cudaStream_t stream) {
  KVSTOW_CHECK(rows.rows <= work.rows_ && has_halves(rows.rows) && work.marks_ == nullptr,
               "a step that cannot run in halves");
  const int middle = rows.rows / 2;
  const DeviceRows half_rows[] = {rows.decodes_from(0, middle),
                                  rows.decodes_from(middle, rows.rows - middle)};
  Lane lanes[] = {work.lane(shape_, Half::first, 0, work.half_plans_[0]),
                  work.lane(shape_, Half::second, middle, work.half_plans_[1])};
  embed(rows, begin, lanes[0], stream);
  for (int h = 0; h < 2; ++h) plan_attention(half_rows[h], lanes[h], stream);
  const auto layers = [&](int h, cudaStream_t on, const Event* at_first_attention) {
    for (int i = 0; i < shape_.layers; ++i) {
      before_attention(half_rows[h], pool, i, lanes[h], on);
      if (i == 0 && at_first_attention) KVSTOW_CUDA(cudaEventRecord(*at_first_attention, on));
      attention(half_rows[h], pool, i, lanes[h], on);
      after_attention(layers_[static_cast<std::size_t>(i)], half_rows[h].rows, lanes[h], on);
    }
    norm(final_norm_, half_rows[h].rows, lanes[h].hidden, lanes[h].parts, lanes[h].normed, on);
  };
  layers(0, stream, &work.forked_);
  KVSTOW_CUDA(cudaStreamWaitEvent(work.second_half_, work.forked_));
  layers(1, work.second_half_, nullptr);
  KVSTOW_CUDA(cudaEventRecord(work.joined_, work.second_half_));
  KVSTOW_CUDA(cudaStreamWaitEvent(stream, work.joined_));
  logits(rows.rows, work, stream);
}

bool CudaTransformer::has_halves(int rows) const {
  // Of more rows the parts of two would not fit.
  if (rows < 2 || rows > kernels::cuda::kMostThinRows) return false;
  if (!kernels::cuda::decode_can_share(kv_layout())) return false;
  if (linear_.mode() == LinearMode::deterministic) return true;
  const Layer& layer = layers_.front();
  const std::int64_t qkv = shape_.qkv_width();
  const int h = shape_.hidden;
  const auto thin = [&](Half half, int n) {
    return linear_.is_thin(layer.qkv, LinearUse::store, n, h, qkv, half) &&
           linear_.is_thin(layer.o, LinearUse::add_join, n, shape_.q_width(), h, half) &&
           linear_.is_thin(layer.up, LinearUse::silu_mul, n, h, shape_.ffn, half) &&
           linear_.is_thin(layer.down, LinearUse::add_join, n, shape_.ffn, h, half);
  };
  return shape_.gated && thin(Half::first, rows / 2) && thin(Half::second, rows - rows / 2);
}

bool CudaTransformer::halves_pay(int rows, std::int64_t positions) const {
  static const double rate = peak_memory_rate();
  const auto chain = chain_.lower_bound(rows - rows / 2);
  if (rows < kLeastHalvedRows || chain == chain_.end()) return false;
  const double bytes = static_cast<double>(positions * 2 * shape_.kv_width()) *
                       static_cast<double>(kernels::size_of(dtype_));
  return bytes / rate > kChainsPerHalves * chain->second;
}

}  // namespace kvstow
