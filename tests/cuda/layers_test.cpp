// Norms, activations and embeddings on the GPU against the slow references.
#include "kernels/cuda/layers.h"

#include <gtest/gtest.h>

#include "kernels/cuda/thin_product.h"
#include "kernels/reference/reference.h"
#include "tests/cuda/device_case.h"
#include "tests/cuda/typed_floats.h"

namespace kvstow::kernels::cuda {
namespace {

using testing::DeviceArray;
using testing::expect_rounded;
using testing::random_typed;
using testing::TypedFloats;

class LayersOnGpu : public ::testing::TestWithParam<DType> {
 protected:
  void SetUp() override {
    if (!testing::have_device()) GTEST_SKIP() << "skipped: no CUDA device";
  }
  RandomStream random{11, "layers"};
  DType dtype = GetParam();
};

INSTANTIATE_TEST_SUITE_P(, LayersOnGpu, ::testing::Values(DType::f16, DType::bf16),
                         [](const auto& p) { return p.param == DType::f16 ? "f16" : "bf16"; });

struct NormShape {
  NormKind kind;
  int rows;
  int segments;
  int width;
};

constexpr NormShape kNorms[] = {
    {NormKind::rms_norm, 3, 1, 1024},   {NormKind::layer_norm, 5, 1, 5120},
    {NormKind::rms_norm, 7, 8, 128},    {NormKind::layer_norm, 1, 1, 768},
    {NormKind::rms_norm, 129, 1, 4096}, {NormKind::layer_norm, 2, 1, 12288},
    {NormKind::rms_norm, 2, 1, 16384},  {NormKind::layer_norm, 4, 1, 8},
};

NormArgs norm_args(const NormShape& s, const void* x, const void* weight, const void* bias, void* y,
                   DType dtype) {
  const std::int64_t stride = std::int64_t{s.segments} * s.width;
  return {s.kind, s.rows, s.segments, s.width, x, stride, weight, bias, y, stride, 1e-5f, dtype};
}

// What the residual stream holds.
std::vector<float> random_floats(std::size_t count, RandomStream& random, double deviation = 1,
                                 double mean = 0) {
  std::vector<float> out(count);
  for (float& x : out) x = static_cast<float>(mean + deviation * random.normal());
  return out;
}

TEST_P(LayersOnGpu, NormsAgreeWithTheReference) {
  for (const NormShape& s : kNorms) {
    const auto count = static_cast<std::size_t>(s.rows) * s.segments * s.width;
    const std::vector<float> x = random_floats(count, random, 1.5, 0.5);
    const TypedFloats w = random_typed(static_cast<std::size_t>(s.width), dtype, random);
    const TypedFloats b = random_typed(static_cast<std::size_t>(s.width), dtype, random);
    std::vector<float> want(count);
    reference::norm(
        norm_args(s, x.data(), w.floats.data(), b.floats.data(), want.data(), DType::f32));
    const DeviceArray<float> dx(x);
    const DeviceArray<std::uint16_t> dw(w.bits), db(b.bits);
    DeviceArray<std::uint16_t> y(count);
    y.fill_bytes(0xff);
    norm(norm_args(s, dx.get(), dw.get(), db.get(), y.get(), dtype), nullptr);
    expect_rounded(y.host(), want, dtype, 20, "norm");
  }
}

TEST_P(LayersOnGpu, JoinNormAddsThePartsInOrder) {
  for (const NormShape& s : {NormShape{NormKind::rms_norm, 5, 1, 1024},
                             {NormKind::layer_norm, 3, 1, 1288},
                             {NormKind::rms_norm, 2, 1, 8192}}) {
    const auto width = static_cast<std::size_t>(s.width);
    const std::size_t count = static_cast<std::size_t>(s.rows) * width;
    const std::vector<float> parts = random_floats(kThinParts * count, random);
    const std::vector<float> residual = random_floats(count, random);
    const TypedFloats w = random_typed(width, dtype, random);
    const TypedFloats b = random_typed(width, dtype, random);
    std::vector<float> sum(count);
    for (std::size_t i = 0; i < count; ++i) {
      float added = parts[i];
      for (std::size_t p = 1; p < kThinParts; ++p) added += parts[p * count + i];
      sum[i] = residual[i] + added;
    }
    std::vector<float> want(count);
    reference::norm(
        norm_args(s, sum.data(), w.floats.data(), b.floats.data(), want.data(), DType::f32));
    const DeviceArray<std::uint16_t> dw(w.bits), db(b.bits);
    const DeviceArray<float> dp(parts), dr(residual);
    DeviceArray<std::uint16_t> y(count);
    y.fill_bytes(0xff);
    join_norm(norm_args(s, nullptr, dw.get(), db.get(), y.get(), dtype), dp.get(), dr.get(),
              nullptr);
    EXPECT_EQ(dr.host(), sum);
    expect_rounded(y.host(), want, dtype, 20, "join_norm");
  }
}

TEST_P(LayersOnGpu, ARowsBitsDoNotDependOnTheOthers) {
  const NormShape all{NormKind::layer_norm, 64, 1, 5120};
  const std::vector<float> x = random_floats(64 * 5120, random);
  const TypedFloats w = random_typed(5120, dtype, random);
  const DeviceArray<float> dx(x);
  const DeviceArray<std::uint16_t> dw(w.bits);
  DeviceArray<std::uint16_t> together(x.size()), alone(5120);
  norm(norm_args(all, dx.get(), dw.get(), dw.get(), together.get(), dtype), nullptr);
  const NormShape one{NormKind::layer_norm, 1, 1, 5120};
  norm(norm_args(one, dx.get() + 41 * 5120, dw.get(), dw.get(), alone.get(), dtype), nullptr);
  const auto bits = together.host();
  EXPECT_EQ(alone.host(),
            std::vector<std::uint16_t>(bits.begin() + 41 * 5120, bits.begin() + 42 * 5120));
}

TEST_P(LayersOnGpu, ActivationsAgreeWithTheReference) {
  for (const ActivationKind kind : {ActivationKind::relu, ActivationKind::silu_mul}) {
    constexpr int kRows = 37;
    constexpr int kWidth = 3072;
    const int in = kind == ActivationKind::relu ? kWidth : 2 * kWidth;
    const TypedFloats x = random_typed(static_cast<std::size_t>(kRows) * in, dtype, random, 3);
    std::vector<float> want(static_cast<std::size_t>(kRows) * kWidth);
    ActivationArgs a{kind, kRows, kWidth, x.floats.data(), in, want.data(), kWidth, DType::f32};
    reference::activation(a);
    const DeviceArray<std::uint16_t> dx(x.bits);
    DeviceArray<std::uint16_t> y(want.size());
    y.fill_bytes(0xff);
    a = {kind, kRows, kWidth, dx.get(), in, y.get(), kWidth, dtype};
    activation(a, nullptr);
    expect_rounded(y.host(), want, dtype, 20, "activation");
  }
}

TEST_P(LayersOnGpu, EmbeddingsAgreeWithTheReference) {
  constexpr int kRows = 91;
  constexpr int kWidth = 1024;
  constexpr int kTokens = 50;
  const TypedFloats table = random_typed(kTokens * kWidth, dtype, random);
  const TypedFloats positions = random_typed(kTokens * kWidth, dtype, random);
  std::vector<std::int32_t> token, position;
  for (int i = 0; i < kRows; ++i) {
    token.push_back(static_cast<std::int32_t>(random.below(kTokens)));
    position.push_back(static_cast<std::int32_t>(random.below(kTokens)));
  }
  const DeviceArray<std::uint16_t> dt(table.bits), dp(positions.bits);
  // Every third token is known by its draw only.
  std::vector<std::int32_t> named = token;
  for (int i = 0; i < kRows; i += 3) named[static_cast<std::size_t>(i)] = ~(kRows - 1 - i);
  const std::vector<std::int32_t> drawn(token.rbegin(), token.rend());
  const DeviceArray<std::int32_t> on_token(named), on_position(position), on_drawn(drawn);
  for (const bool learned : {false, true}) {
    std::vector<float> want(kRows * kWidth);
    reference::embedding({kRows, kWidth, token.data(), table.floats.data(), position.data(),
                          learned ? positions.floats.data() : nullptr, want.data(), kWidth,
                          DType::f32});
    DeviceArray<float> y(want.size());
    y.fill_bytes(0xff);
    embedding({kRows, kWidth, on_token.get(), dt.get(), on_position.get(),
               learned ? dp.get() : nullptr, y.get(), kWidth, dtype},
              {on_drawn.get()}, nullptr);
    EXPECT_EQ(y.host(), want);
  }
}

TEST_P(LayersOnGpu, RefusesWhatHasNoBody) {
  const NormShape odd{NormKind::rms_norm, 1, 1, 12};
  EXPECT_THROW(norm(norm_args(odd, nullptr, nullptr, nullptr, nullptr, dtype), nullptr),
               std::invalid_argument);
  const NormShape wide{NormKind::rms_norm, 1, 1, 8200};
  EXPECT_THROW(join_norm(norm_args(wide, nullptr, nullptr, nullptr, nullptr, dtype), nullptr,
                         nullptr, nullptr),
               std::invalid_argument);
}

}  // namespace
}  // namespace kvstow::kernels::cuda
