// What a step asks of a transformer, row by row: a row is one token whose K and V are computed.
#pragma once

#include <cstdint>
#include <vector>

namespace kvstow {

// First the prompts, one run of consecutive positions after the other, then one row for each
// generated token. Both find their K and V through map rows, one for each sequence.
struct ForwardRows {
  std::vector<std::int32_t> token;  // [rows]; below 0: what sequence ~token has just drawn, which
                                    // only the device knows yet
  std::vector<std::int32_t> position;  // [rows]
  std::vector<std::int64_t> slot;      // [rows] where the row's own K and V go

  std::vector<std::int32_t> prefill_begin{0};  // [prompts + 1] row boundaries
  std::vector<std::int32_t> prefill_map;       // [prompts]
  std::vector<std::int32_t> prefill_first;     // [prompts] position of the first row
  std::vector<std::int32_t> decode_map;        // [rows after the prompts]
  std::vector<std::int32_t> decode_length;     // [the same] positions read, its own included
  std::vector<std::int32_t> decode_stable;     // [the same] of those, stored before this step

  std::vector<std::int32_t> logits;  // rows whose logits are wanted

  // The maps: extents (block_tokens 0) or block tables.
  std::vector<std::int64_t> first;  // [map rows]
  std::vector<std::int32_t> table;  // [map rows, table_stride], and what longer steps have left
  std::int64_t table_stride = 0;
  int block_tokens = 0;
  int map_rows = 0;

  [[nodiscard]] int rows() const { return static_cast<int>(token.size()); }
  [[nodiscard]] int prompts() const { return static_cast<int>(prefill_map.size()); }
  [[nodiscard]] int prompt_rows() const { return prefill_begin.back(); }
  [[nodiscard]] int decodes() const { return static_cast<int>(decode_map.size()); }
  void clear();
};

}  // namespace kvstow
