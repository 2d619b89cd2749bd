// The kernels of 2023 against double precision.
#include "kernels/cuda/museum/museum.h"

#include <gtest/gtest.h>

#include "tests/cuda/decode_case.h"

namespace kvstow::kernels::cuda::museum {
namespace {

using testing::DecodeCase;
using testing::DecodeShape;
using testing::DeviceArray;

class Museum : public ::testing::Test {
 protected:
  void SetUp() override {
    if (!testing::have_device()) GTEST_SKIP() << "skipped: no CUDA device";
  }
};

// Lengths around a block's and a chunk's end, two rows of one sequence.
DecodeShape shape(int kv_heads, int group, int block_tokens, std::vector<std::int32_t> length) {
  length.insert(length.end(), {0, 1, block_tokens - 1, block_tokens, block_tokens + 1, 127, 129});
  DecodeShape s{kv_heads, group, 128, block_tokens, DType::f16, std::move(length), {}, 31};
  for (std::size_t r = 0; r < s.length.size(); ++r) {
    s.map_row.push_back(static_cast<std::int32_t>(r == 1 ? 0 : r));
  }
  return s;
}

template <class Map, class Body>
double error(const DecodeCase& c, const Map& map, const Body& body) {
  const int rows = static_cast<int>(c.shape.length.size());
  DeviceArray<std::uint16_t> out(static_cast<std::size_t>(rows * c.width()));
  out.fill_bytes(0xff);
  body(c.args(map, out.get(), 0, rows), c.placement.longest(), nullptr);
  KVSTOW_CUDA_SHAPE(cudaDeviceSynchronize(), c.shape.text());
  return error_of(c, out.host());
}

TEST_F(Museum, Paper2023AgreesWithDoublePrecisionAtEveryBlockSize) {
  for (int block = 1; block <= 256; block *= 2) {
    const DecodeCase c(shape(3, 2, block, {300, 64, 900}));
    EXPECT_LE(error(c, c.table_map(), paper_2023_decode), 7e-4) << c.shape.text();
  }
  const DecodeCase c(shape(1, 1, 16, {20000}));  // logits need more shared memory than the default
  EXPECT_LE(error(c, c.table_map(), paper_2023_decode), 7e-4);
}

TEST_F(Museum, FasterTransformerAgreesWithDoublePrecision) {
  for (const std::vector<std::int32_t>& lengths :
       {std::vector<std::int32_t>{20}, {300, 64, 900}, {2048, 5000}}) {
    DecodeShape s = shape(3, 2, 16, lengths);
    if (lengths[0] == 20) s.length.resize(4), s.map_row.resize(4);  // the 64-thread body
    const DecodeCase c(s);
    EXPECT_LE(error(c, c.affine_map(), faster_transformer_decode), 7e-4) << c.shape.text();
  }
}

TEST_F(Museum, RefusesWhatHasNoBody) {
  const DecodeCase odd(shape(1, 1, 12, {10}));
  EXPECT_THROW(error(odd, odd.table_map(), paper_2023_decode), std::invalid_argument);
  const DecodeCase c(shape(1, 1, 16, {10}));
  auto a = c.args(c.affine_map(), nullptr, 0, 1);
  EXPECT_THROW(faster_transformer_decode(a, 60'000, nullptr), std::invalid_argument);
  a.dtype = DType::bf16;
  EXPECT_THROW(faster_transformer_decode(a, 10, nullptr), std::invalid_argument);
}

}  // namespace
}  // namespace kvstow::kernels::cuda::museum
