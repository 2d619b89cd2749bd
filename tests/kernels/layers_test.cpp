// Linear layers, norms, RoPE, activations, embeddings against the reference, and the identity of a
// linear layer's rows across batches.
#include <gtest/gtest.h>

#include <cmath>

#include "kernels/cpu/cpu.h"
#include "kernels/reference/reference.h"
#include "tests/kernels/random_floats.h"

namespace kvstow::kernels {
namespace {

double relative_error(const std::vector<float>& got, const std::vector<float>& want) {
  double error = 0;
  double norm = 0;
  for (std::size_t i = 0; i < want.size(); ++i) {
    error += std::pow(double{got[i]} - double{want[i]}, 2);
    norm += std::pow(double{want[i]}, 2);
  }
  return std::sqrt(error / norm);
}

struct LinearCase {
  int rows, in, out;
  std::vector<float> x, weight, bias, residual, packed;

  LinearCase(int rows_, int in_, int out_) : rows(rows_), in(in_), out(out_) {
    const auto n = [](int a, int b) { return static_cast<std::size_t>(a) * b; };
    x = random_floats(n(rows, in), 1);
    weight = random_floats(n(out, in), 2);
    bias = random_floats(n(out, 1), 3);
    residual = random_floats(n(rows, out), 4);
    packed.resize(cpu::packed_elements(out, in));
    cpu::pack_weight(weight.data(), out, in, packed.data());
  }

  [[nodiscard]] LinearArgs args(int first, int count, const std::vector<float>& w,
                                std::vector<float>& y) const {
    y.assign(static_cast<std::size_t>(count) * out, 0);
    return {
        count,    in,       out,         x.data() + static_cast<std::size_t>(first) * in,
        in,       w.data(), bias.data(), residual.data() + static_cast<std::size_t>(first) * out,
        y.data(), out,      DType::f32};
  }
};

TEST(Linear, MatchesTheReferenceOnEveryInstructionSet) {
  cpu::ThreadPool threads(2);
  for (const auto& [rows, in, out] : {std::tuple{1, 96, 64}, {7, 33, 65}, {23, 257, 130}}) {
    const LinearCase c(rows, in, out);
    std::vector<float> want;
    reference::linear(c.args(0, rows, c.weight, want));
    for (const cpu::Isa* isa : cpu::available_isas()) {
      std::vector<float> got;
      cpu::linear(c.args(0, rows, c.packed, got), threads, *isa);
      EXPECT_LE(relative_error(got, want), 1e-6) << isa->name << " " << rows;
    }
  }
}

TEST(Linear, ARowHasTheSameBitsInEveryBatch) {
  constexpr int kRows = 205;  // more than two row blocks
  const LinearCase c(kRows, 129, 100);
  cpu::ThreadPool one(1);
  cpu::ThreadPool three(3);
  for (const cpu::Isa* isa : cpu::available_isas()) {
    std::vector<float> all;
    cpu::linear(c.args(0, kRows, c.packed, all), three, *isa);
    for (const int batch : {1, 2, 3, 4, 5, 6, 7, 8, 13, 96, 97}) {
      for (int first = 0; first < kRows; first += batch) {
        const int count = std::min(batch, kRows - first);
        std::vector<float> part;
        cpu::linear(c.args(first, count, c.packed, part), one, *isa);
        ASSERT_TRUE(std::equal(part.begin(), part.end(),
                               all.begin() + static_cast<std::ptrdiff_t>(first) * c.out))
            << isa->name << " batch " << batch << " first row " << first;
      }
    }
  }
}

TEST(Linear, NanReachesTheOutput) {
  LinearCase c(3, 16, 64);
  c.x[16] = NAN;
  std::vector<float> y;
  cpu::ThreadPool threads(1);
  cpu::linear(c.args(0, 3, c.packed, y), threads);
  EXPECT_TRUE(std::isfinite(y[0]));
  EXPECT_TRUE(std::isnan(y[64]));
  EXPECT_TRUE(std::isfinite(y[128]));
}

TEST(Norm, MatchesTheReference) {
  cpu::ThreadPool threads(2);
  for (const NormKind kind : {NormKind::layer_norm, NormKind::rms_norm}) {
    for (const auto& [segments, width] : {std::pair{1, 100}, {3, 32}, {1, 5}}) {
      constexpr int kRows = 19;
      const auto row = static_cast<std::size_t>(segments) * width;
      const auto x = random_floats(kRows * row, 1);
      const auto weight = random_floats(static_cast<std::size_t>(width), 2);
      const auto bias = random_floats(static_cast<std::size_t>(width), 3);
      std::vector<float> got(x.size());
      std::vector<float> want(x.size());
      NormArgs args{kind,          kRows,
                    segments,      width,
                    x.data(),      static_cast<std::int64_t>(row),
                    weight.data(), bias.data(),
                    got.data(),    static_cast<std::int64_t>(row),
                    1e-5f,         DType::f32};
      cpu::norm(args, threads);
      args.y = want.data();
      reference::norm(args);
      EXPECT_LE(relative_error(got, want), 1e-6);
    }
  }
}

TEST(Rope, MatchesTheReference) {
  constexpr int kRows = 5, kHeads = 3, kDim = 16;
  auto got = random_floats(kRows * kHeads * kDim, 1);
  auto want = got;
  const auto cos = random_floats(9 * kDim / 2, 2);
  const auto sin = random_floats(9 * kDim / 2, 3);
  const std::int32_t position[kRows] = {0, 8, 3, 3, 7};
  RopeArgs args{kRows,    kHeads,     kDim,       got.data(), kHeads * kDim,
                position, cos.data(), sin.data(), DType::f32};
  cpu::ThreadPool threads(1);
  cpu::rope(args, threads);
  args.x = want.data();
  reference::rope(args);
  EXPECT_LE(relative_error(got, want), 1e-6);
}

TEST(Activation, MatchesTheReferenceInPlaceToo) {
  constexpr int kRows = 3, kWidth = 37;
  cpu::ThreadPool threads(1);
  for (const ActivationKind kind : {ActivationKind::relu, ActivationKind::silu_mul}) {
    auto x = random_floats(kRows * 2 * kWidth, 1);
    std::vector<float> want(kRows * kWidth);
    ActivationArgs args{kind, kRows, kWidth, x.data(), 2 * kWidth, want.data(), kWidth, DType::f32};
    reference::activation(args);
    args.y = x.data();
    args.y_stride = 2 * kWidth;
    cpu::activation(args, threads);
    std::vector<float> got;
    for (int r = 0; r < kRows; ++r)
      got.insert(got.end(), &x[r * 2 * kWidth], &x[r * 2 * kWidth] + kWidth);
    EXPECT_LE(relative_error(got, want), 1e-6);
  }
}

TEST(Embedding, MatchesTheReference) {
  const auto table = random_floats(10 * 6, 1);
  const auto positions = random_floats(4 * 6, 2);
  const std::int32_t token[] = {9, 0, 9};
  const std::int32_t position[] = {3, 0, 1};
  cpu::ThreadPool threads(1);
  for (const float* position_table : {static_cast<const float*>(nullptr), positions.data()}) {
    std::vector<float> got(18);
    std::vector<float> want(18);
    EmbeddingArgs args{3,          6, token,     table.data(), position, position_table,
                       got.data(), 6, DType::f32};
    cpu::embedding(args, threads);
    args.y = want.data();
    reference::embedding(args);
    EXPECT_EQ(got, want);
  }
}

}  // namespace
}  // namespace kvstow::kernels
