// Products of few rows against sums in double, and what the norm makes of one left in parts.
#include "kernels/cuda/thin_product.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstdlib>

#include "kernels/cuda/layers.h"
#include "tests/cuda/device_case.h"
#include "tests/cuda/typed_floats.h"

namespace kvstow::kernels::cuda {
namespace {

using testing::DeviceArray;
using testing::random_typed;
using testing::TypedFloats;

class ThinProduct : public ::testing::TestWithParam<DType> {
 protected:
  void SetUp() override {
    if (!testing::have_device()) GTEST_SKIP() << "skipped: no CUDA device";
    if (!has_thin_product(case_of({1024, 1024, ThinUse::store}, 8))) {
      GTEST_SKIP() << "skipped: not built for sm_90a";
    }
  }
  struct Shape {
    int in;
    int out;
    ThinUse use;
  };
  [[nodiscard]] ThinProductArgs case_of(const Shape& s, int rows) const {
    return {.use = s.use,
            .rows = rows,
            .in = s.in,
            .out = s.out,
            .x = nullptr,
            .x_stride = s.in,
            .weight = nullptr,
            .y = nullptr,
            .y_stride = s.use == ThinUse::silu_mul ? s.out / 2 : s.out,
            .dtype = dtype};
  }
  RandomStream random{5, "thin product"};
  DType dtype = GetParam();
};

INSTANTIATE_TEST_SUITE_P(, ThinProduct, ::testing::Values(DType::f16, DType::bf16),
                         [](const auto& p) { return p.param == DType::f16 ? "f16" : "bf16"; });

// The rounding of one element, relative to the norm of all: unit roundoff / sqrt(3) and what the
// sums of some thousand products in f32 add, with room of two.
double tolerance(DType dtype) {
  return dtype == DType::f16 ? 6e-4 : 5e-3;
}

TEST_P(ThinProduct, AgreesWithSumsInDouble) {
  // Qwen3-0.6B's four, the smallest, and wide ones: blocks of 16 and 48 outputs, of 32 and 128, of
  // 32 (in one of four warpgroups) and 224.
  const Shape shapes[] = {{1024, 4096, ThinUse::store},    {2048, 1024, ThinUse::parts},
                          {1024, 6144, ThinUse::silu_mul}, {3072, 1024, ThinUse::parts},
                          {256, 64, ThinUse::store},       {768, 128, ThinUse::silu_mul},
                          {1024, 64, ThinUse::parts},      {1152, 2048, ThinUse::store},
                          {1152, 6144, ThinUse::store},    {4352, 1024, ThinUse::parts},
                          {4352, 4096, ThinUse::parts},    {1088, 4096, ThinUse::silu_mul},
                          {1088, 22400, ThinUse::silu_mul}};
  for (const Shape& s : shapes) {
    const int width = s.use == ThinUse::silu_mul ? s.out / 2 : s.out;
    const int looked_at = s.out > 1000 ? 37 : 1;  // every so many outputs
    const TypedFloats w = random_typed(
        static_cast<std::size_t>(s.in) * static_cast<std::size_t>(s.out), dtype, random, 0.05);
    const DeviceArray<std::uint16_t> dw(w.bits);
    for (const int rows : {1, 8, 13, 31, 64, 65, 128, 130, 170, 220, 256}) {
      ThinProductArgs a = case_of(s, rows);
      a.x_stride = s.in + 8;
      a.y_stride = width + 16;
      const TypedFloats x =
          random_typed(static_cast<std::size_t>(rows * a.x_stride), dtype, random);
      const DeviceArray<std::uint16_t> dx(x.bits);
      DeviceArray<std::uint16_t> y(static_cast<std::size_t>(rows * a.y_stride));
      DeviceArray<float> parts(static_cast<std::size_t>(kThinParts) *
                               static_cast<std::size_t>(rows * width));
      y.fill_bytes(0xff);
      parts.fill_bytes(0xff);
      a.x = dx.get();
      a.weight = dw.get();
      a.y = s.use == ThinUse::parts ? static_cast<void*>(parts.get()) : y.get();
      thin_product(a, nullptr);
      const std::vector<std::uint16_t> got = y.host();
      const std::vector<float> got_parts = parts.host();
      const auto sum = [&](int row, int out) {
        double all = 0;
        for (int k = 0; k < s.in; ++k) {
          all += double{x.floats[static_cast<std::size_t>(row * a.x_stride + k)]} *
                 double{w.floats[static_cast<std::size_t>(out) * static_cast<std::size_t>(s.in) +
                                 static_cast<std::size_t>(k)]};
        }
        return all;
      };
      double error = 0;
      double norm = 0;
      for (int row = 0; row<rows; row += rows> 64 ? 11 : 1) {
        for (int out = row % looked_at; out < width; out += looked_at) {
          double want = sum(row, out);
          double have = 0;
          if (s.use == ThinUse::parts) {
            for (int p = 0; p < kThinParts; ++p) {
              have += double{got_parts[static_cast<std::size_t>((p * rows + row) * width + out)]};
            }
          } else {
            if (s.use == ThinUse::silu_mul) {
              want = want / (1 + std::exp(-want)) * sum(row, out + width);
            }
            have = double{
                testing::to_float(got[static_cast<std::size_t>(row * a.y_stride + out)], dtype)};
          }
          error += (have - want) * (have - want);
          norm += want * want;
        }
        for (std::int64_t out = s.use == ThinUse::parts ? 0 : width; out < a.y_stride; ++out) {
          ASSERT_EQ(got[static_cast<std::size_t>(row * a.y_stride + out)], 0xffff)
              << "written beyond the row";
        }
      }
      EXPECT_LT(std::sqrt(error / norm), tolerance(dtype))
          << s.in << " -> " << s.out << ", use " << static_cast<int>(s.use) << ", " << rows
          << " rows";
    }
  }
}

TEST_P(ThinProduct, ARowsBitsDependOnNoOtherRow) {
  for (const Shape& s : {Shape{1024, 4096, ThinUse::store},
                         {1024, 6144, ThinUse::silu_mul},
                         {2048, 1024, ThinUse::parts},
                         {1152, 6144, ThinUse::store},
                         {1088, 22400, ThinUse::silu_mul},
                         {4352, 4096, ThinUse::parts}}) {
    const DeviceArray<std::uint16_t> w(
        random_typed(static_cast<std::size_t>(s.in) * static_cast<std::size_t>(s.out), dtype,
                     random, 0.05)
            .bits);
    const DeviceArray<std::uint16_t> x(
        random_typed(static_cast<std::size_t>(kMostThinRows * s.in), dtype, random).bits);
    const int copies = s.use == ThinUse::parts ? kThinParts : 1;
    std::vector<std::uint16_t> first;
    for (const int i :
         {256, 1, 16, 30, 63, 90, 100, 128, 150, 180, 200, -1, -16, -30, -64, -90, -128, -256}) {
      const int rows = std::abs(i);
      ThinProductArgs a = case_of(s, rows);
      a.beside_attention = i < 0;
      if (!has_thin_product(a)) continue;  // a wide one has room beside no attention
      const auto row = static_cast<std::size_t>(a.y_stride) * (copies > 1 ? 2 : 1);  // of 16 bits
      const std::size_t size = static_cast<std::size_t>(rows) * row;
      DeviceArray<std::uint16_t> y(static_cast<std::size_t>(copies) * size);
      y.fill_bytes(0xff);
      a.x = x.get();
      a.weight = w.get();
      a.y = y.get();
      thin_product(a, nullptr);
      const std::vector<std::uint16_t> got = y.host();
      if (first.empty()) first = got;
      for (int c = 0; c < copies; ++c) {
        const auto part =
            got.begin() + static_cast<std::int64_t>(static_cast<std::size_t>(c) * size);
        const auto same = first.begin() + static_cast<std::int64_t>(static_cast<std::size_t>(c) *
                                                                    kMostThinRows * row);
        ASSERT_TRUE(std::equal(part, part + static_cast<std::int64_t>(size), same))
            << rows << " rows, use " << static_cast<int>(s.use);
      }
    }
  }
}

// Launches that may start early, weights of their own each: every product must see its input.
TEST_P(ThinProduct, AChainOfEarlyLaunchesIsTheChainOfLateOnes) {
  constexpr int kRows = 40;
  constexpr int kWidth = 1024;
  constexpr int kLayers = 12;
  const DeviceArray<std::uint16_t> w(
      random_typed(std::size_t{kLayers} * 2 * kWidth * kWidth, dtype, random, 0.05).bits);
  const DeviceArray<std::uint16_t> weight(random_typed(kWidth, dtype, random).bits);
  const TypedFloats start = random_typed(std::size_t{kRows} * kWidth, dtype, random);
  const auto run = [&](Dependent dependent) {
    DeviceArray<float> hidden(start.floats);
    DeviceArray<std::uint16_t> normed(start.bits);
    DeviceArray<std::uint16_t> middle(start.bits);
    DeviceArray<float> parts(std::size_t{kThinParts} * kRows * kWidth);
    for (int layer = 0; layer < kLayers; ++layer) {
      ThinProductArgs a = case_of({kWidth, kWidth, ThinUse::store}, kRows);
      a.x = normed.get();
      a.weight = w.get() + std::size_t{2} * static_cast<std::size_t>(layer) * kWidth * kWidth;
      a.y = middle.get();
      thin_product(a, nullptr, dependent);
      a.use = ThinUse::parts;
      a.x = middle.get();
      a.weight = static_cast<const std::uint16_t*>(a.weight) + kWidth * kWidth;
      a.y = parts.get();
      thin_product(a, nullptr, dependent);
      join_norm({.kind = NormKind::rms_norm,
                 .rows = kRows,
                 .segments = 1,
                 .width = kWidth,
                 .x = nullptr,
                 .x_stride = kWidth,
                 .weight = weight.get(),
                 .bias = nullptr,
                 .y = normed.get(),
                 .y_stride = kWidth,
                 .epsilon = 1e-6f,
                 .dtype = dtype},
                parts.get(), hidden.get(), nullptr, dependent);
    }
    return std::pair(hidden.host(), normed.host());
  };
  const auto late = run(Dependent::no);
  for (int i = 0; i < 20; ++i) ASSERT_EQ(run(Dependent::yes), late);
}

}  // namespace
}  // namespace kvstow::kernels::cuda
