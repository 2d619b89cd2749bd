#include "core/exec/cuda/device_rows.h"

#include <algorithm>

#include "core/check.h"
#include "kernels/cuda/cuda_check.h"

namespace kvstow {
namespace {

constexpr std::size_t kAlignment = 256;
constexpr std::size_t kArrays = 13;
constexpr std::size_t kBytesPerRow = 8 * sizeof(std::int32_t) + 2 * sizeof(std::int64_t) +
                                     sizeof(std::int32_t) + sizeof(kernels::cuda::SamplingRow);

}  // namespace

DeviceRows DeviceRows::decodes_from(int begin, int count) const {
  DeviceRows some = *this;
  some.rows = some.decodes = some.draws = count;
  some.token += begin;
  some.position += begin;
  some.slot += begin;
  some.decode_map += begin;
  some.decode_length += begin;
  some.decode_stable += begin;
  return some;
}

std::size_t RowsUpload::bytes_for(std::int64_t rows, std::int64_t table_stride) {
  return static_cast<std::size_t>(rows + 1) *
             (kBytesPerRow + static_cast<std::size_t>(table_stride) * sizeof(std::int32_t)) +
         kArrays * kAlignment;
}

RowsUpload::RowsUpload(int rows, std::int64_t table_stride)
    : rows_(static_cast<std::size_t>(rows)),
      stride_(static_cast<std::size_t>(table_stride)),
      host_(bytes_for(rows, table_stride), "the rows of a step"),
      device_(bytes_for(rows, table_stride), "the rows of a step") {
  device_.fill_bytes(0);
}

bool RowsUpload::holds(const ForwardRows& rows, const DrawRows& draws) const {
  const std::size_t most =
      std::max({rows.token.size(), draws.logits.size(), static_cast<std::size_t>(rows.map_rows)});
  return most <= rows_;
}

template <class T>
T* RowsUpload::put(const std::vector<T>& from, std::size_t count, std::size_t room, T padding) {
  T* at = reinterpret_cast<T*>(host_.get() + used_);
  KVSTOW_CHECK(from.size() <= count && used_ + room * sizeof(T) <= host_.size(),
               "a step has more rows than there is room for");
  std::copy(from.begin(), from.end(), at);
  std::fill(at + from.size(), at + count, padding);
  T* there = reinterpret_cast<T*>(device_.get() + used_);
  used_ += (room * sizeof(T) + kAlignment - 1) / kAlignment * kAlignment;
  return there;
}

// What lies beyond a row's ids is never read.
const std::int32_t* RowsUpload::put_table(const ForwardRows& rows) {
  const std::size_t height = static_cast<std::size_t>(rows.map_rows);
  const std::size_t width = static_cast<std::size_t>(rows.table_stride);
  auto* to = reinterpret_cast<std::int32_t*>(host_.get() + used_);
  KVSTOW_CHECK(width <= stride_ && used_ + height * stride_ * sizeof(*to) <= host_.size(),
               "a step has longer tables than there is room for");
  for (std::size_t row = 0; row < height; ++row) {
    std::copy_n(rows.table.data() + row * width, width, to + row * stride_);
  }
  const auto* there = reinterpret_cast<const std::int32_t*>(device_.get() + used_);
  used_ += height * stride_ * sizeof(*to);
  return there;
}

DeviceRows RowsUpload::pack(const ForwardRows& rows, const DrawRows& draws, int padded_rows) {
  const bool fixed = padded_rows > 0;
  KVSTOW_CUDA(cudaEventSynchronize(sent_));
  used_ = 0;
  const auto put_all = [&]<class T>(const std::vector<T>& from, T padding) {
    const std::size_t count = fixed ? static_cast<std::size_t>(padded_rows) : from.size();
    return put(from, count, fixed ? rows_ : count, padding);
  };
  DeviceRows there;
  there.rows = fixed ? padded_rows : rows.rows();
  there.decodes = fixed ? padded_rows : rows.decodes();
  there.draws = fixed ? padded_rows : static_cast<int>(draws.logits.size());
  there.prompts = rows.prompts();
  there.prompt_rows = rows.prompt_rows();
  there.block_tokens = rows.block_tokens;
  there.table_stride = static_cast<std::int64_t>(stride_);
  there.slot = put_all(rows.slot, std::int64_t{-1});
  there.sampling = put_all(draws.sampling, kernels::cuda::SamplingRow{.top_p = 1});
  there.token = put_all(rows.token, 0);
  there.position = put_all(rows.position, 0);
  there.decode_map = put_all(rows.decode_map, 0);
  there.decode_length = put_all(rows.decode_length, 0);
  there.decode_stable = put_all(rows.decode_stable, 0);
  if (!fixed) {
    there.prefill_begin = put_all(rows.prefill_begin, 0);
    there.prefill_map = put_all(rows.prefill_map, 0);
    there.prefill_first = put_all(rows.prefill_first, 0);
    there.logits = put_all(draws.logits, 0);
  }
  if (rows.block_tokens == 0) {
    there.first = put_all(rows.first, std::int64_t{0});
  } else {
    there.table = put_table(rows);
  }
  return there;
}

void RowsUpload::send(cudaStream_t stream) const {
  KVSTOW_CUDA(cudaMemcpyAsync(device_.get(), host_.get(), used_, cudaMemcpyHostToDevice, stream));
  KVSTOW_CUDA(cudaEventRecord(sent_, stream));
}

void RowsUpload::arrive_before(cudaStream_t stream) const {
  KVSTOW_CUDA(cudaStreamWaitEvent(stream, sent_));
}

}  // namespace kvstow
