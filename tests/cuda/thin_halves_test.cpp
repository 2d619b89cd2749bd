// A step in two halves of thin products, which run beside each other's attention, against the same
// step whole.
#include <gtest/gtest.h>

#include "core/exec/cuda/cuda_transformer.h"
#include "core/exec/cuda/step_kernels.h"
#include "kernels/cuda/cuda_check.h"
#include "tests/cuda/device_case.h"

namespace kvstow {
namespace {

using kernels::DType;

constexpr int kRows = 201;
constexpr int kSlotsOfRow = 400;

Transformer shape_with_thin_products() {
  Transformer shape;
  shape.family = ModelFamily::qwen3;
  shape.layers = 6;
  shape.hidden = 1024;
  shape.heads = 8;
  shape.kv_heads = 4;
  shape.head_dim = 128;
  shape.ffn = 2048;
  shape.vocab = 1000;
  shape.max_positions = kSlotsOfRow;
  shape.qk_norm = shape.tied_embeddings = true;
  return shape;
}

// Each row at the end of an extent of its own; the lengths run from 1 to 399.
ForwardRows decodes() {
  ForwardRows rows;
  rows.map_rows = kRows;
  for (int r = 0; r < kRows; ++r) {
    const int position = r * 37 % (kSlotsOfRow - 1);
    rows.first.push_back(std::int64_t{r} * kSlotsOfRow);
    rows.token.push_back(r * 31 % 1000);
    rows.position.push_back(position);
    rows.slot.push_back(rows.first.back() + position);
    rows.decode_map.push_back(r);
    rows.decode_length.push_back(position + 1);
    rows.decode_stable.push_back(position);
    rows.logits.push_back(r);
  }
  return rows;
}

TEST(ThinHalves, AreTheWholeStep) {
  if (!kernels::cuda::testing::have_device()) GTEST_SKIP() << "skipped: no CUDA device";
  const Transformer shape = shape_with_thin_products();
  CudaTransformer model(shape, DType::bf16, *random_weights(1), LinearMode::thin);
  CudaTransformer::Workspace work(model, kRows, kRows);
  const Stream stream;
  for (const int rows : {kRows / 2, kRows - kRows / 2, kRows}) model.tune(rows, work, stream);
  if (!model.has_halves(kRows)) GTEST_SKIP() << "skipped: not built for sm_90a";
  kernels::KvPool pool{nullptr,
                       {shape.layers, shape.kv_heads, shape.head_dim,
                        std::int64_t{kRows} * kSlotsOfRow, DType::bf16}};
  const DeviceTensor data(pool.layout.elements(), DType::bf16, "a pool");
  fill_uniform_weights(data.get(), data.elements(), DType::bf16, 3, 0, 1, stream);
  pool.data = data.get();
  RowsUpload upload(kRows, 0);
  const ForwardRows rows = decodes();
  DrawRows draws{.logits = rows.logits, .sampling = {}};
  draws.sampling.resize(rows.logits.size());
  const DeviceRows there = upload.pack(rows, draws, kRows);
  upload.send(stream);
  const auto logits = [&](bool halves) {
    halves ? model.forward_halves(there, {}, pool, work, stream)
           : model.forward(there, {}, pool, work, stream);
    std::vector<float> all(std::size_t{kRows} * 1000);
    KVSTOW_CUDA(cudaStreamSynchronize(stream));
    KVSTOW_CUDA(
        cudaMemcpy(all.data(), work.logits(), all.size() * sizeof(float), cudaMemcpyDeviceToHost));
    return all;
  };
  // No kernel of either adds in an order that depends on other rows.
  const std::vector<float> whole = logits(false);
  for (int i = 0; i < 30; ++i) ASSERT_EQ(logits(true), whole) << "run " << i;
}

}  // namespace
}  // namespace kvstow
