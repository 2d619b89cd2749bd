// A step's rows as the kernels see them, and how they get there.
#pragma once

#include <cuda_runtime_api.h>

#include <cstdint>
#include <vector>

#include "core/exec/cuda/memory.h"
#include "core/exec/rows/forward_rows.h"
#include "kernels/cuda/sampling.h"

namespace kvstow {

// ForwardRows with its arrays on the device. The counts are the host's.
struct DeviceRows {
  int rows = 0;
  int prompts = 0;
  int prompt_rows = 0;
  int decodes = 0;
  int draws = 0;

  const std::int32_t* token = nullptr;          // [rows]; below 0: what the step before drew
  const std::int32_t* position = nullptr;       // [rows]
  const std::int64_t* slot = nullptr;           // [rows]; -1: padding, written nowhere
  const std::int32_t* prefill_begin = nullptr;  // [prompts + 1]
  const std::int32_t* prefill_map = nullptr;
  const std::int32_t* prefill_first = nullptr;
  const std::int32_t* decode_map = nullptr;     // [decodes]
  const std::int32_t* decode_length = nullptr;  // 0: padding
  const std::int32_t* decode_stable = nullptr;
  const std::int32_t* logits =
      nullptr;  // [draws] rows whose logits are wanted; null: row i is draw i
  const kernels::cuda::SamplingRow* sampling = nullptr;  // [draws]

  const std::int64_t* first = nullptr;  // [map rows]
  const std::int32_t* table = nullptr;  // [map rows, table_stride]
  std::int64_t table_stride = 0;
  int block_tokens = 0;  // 0: extents

  // Some rows of a step of decodes, as a step of their own.
  [[nodiscard]] DeviceRows decodes_from(int begin, int count) const;
};

// What is drawn from a step's logits, in the order of the draws.
struct DrawRows {
  std::vector<std::int32_t> logits;
  std::vector<kernels::cuda::SamplingRow> sampling;
};

// One pinned buffer and its copy on the device. A step's arrays go over in one transfer.
class RowsUpload {
 public:
  // Places for steps of up to `rows` rows and map rows, with `table_stride` block ids each.
  RowsUpload(int rows, std::int64_t table_stride);

  // Puts the rows into the pinned buffer. With `padded_rows` > 0 the step is one of decodes only,
  // drawn in order, padded to that many rows, and every array lies where it lies in each such step:
  // a captured graph finds it there. Otherwise arrays are packed. Waits until what was sent before
  // has left the pinned buffer.
  DeviceRows pack(const ForwardRows&, const DrawRows&, int padded_rows);

  // Copies what pack() wrote.
  void send(cudaStream_t) const;
  // What the stream does next finds it on the device.
  void arrive_before(cudaStream_t) const;

  // Whether pack() has room for a step of this size.
  [[nodiscard]] bool holds(const ForwardRows&, const DrawRows&) const;
  [[nodiscard]] static std::size_t bytes_for(std::int64_t rows, std::int64_t table_stride);

 private:
  template <class T>
  T* put(const std::vector<T>& from, std::size_t count, std::size_t room, T padding);
  const std::int32_t* put_table(const ForwardRows&);

  std::size_t rows_ = 0;
  std::size_t stride_ = 0;
  PinnedBuffer<unsigned char> host_;
  DeviceBuffer<unsigned char> device_;
  Event sent_{cudaEventDisableTiming};
  std::size_t used_ = 0;
};

}  // namespace kvstow
