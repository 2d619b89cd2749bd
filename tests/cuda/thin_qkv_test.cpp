// The QKV product with norm, rotation and write in it, against the same in double.
#include "kernels/cuda/thin_qkv.h"

#include <gtest/gtest.h>

#include <cmath>
#include <utility>

#include "tests/cuda/device_case.h"
#include "tests/cuda/typed_floats.h"

namespace kvstow::kernels::cuda {
namespace {

using testing::DeviceArray;
using testing::random_typed;
using testing::TypedFloats;

constexpr int kIn = 512;
constexpr int kHeads = 3;
constexpr int kKvHeads = 2;
constexpr int kDim = 128;
constexpr int kOut = (kHeads + 2 * kKvHeads) * kDim;
constexpr int kLayers = 2;
constexpr int kSlots = 300;
constexpr int kMostRows = kMostQkvRows;
constexpr int kStride = kIn + 8;
constexpr int kQStride = kHeads * kDim + 16;
constexpr int kPositions = 64;
constexpr float kEpsilon = 1e-3f;

class ThinQkv : public ::testing::TestWithParam<DType> {
 protected:
  void SetUp() override {
    if (!testing::have_device()) GTEST_SKIP() << "skipped: no CUDA device";
    if (!has_thin_qkv(case_of(8, true, true))) GTEST_SKIP() << "skipped: not built for sm_90a";
    dw = DeviceArray<std::uint16_t>(w.bits);
    dx = DeviceArray<std::uint16_t>(x.bits);
    dnorm = DeviceArray<std::uint16_t>(norms.bits);
    q = DeviceArray<std::uint16_t>(std::size_t{kMostRows} * kQStride);
    pool = DeviceArray<std::uint16_t>(std::size_t{kLayers} * 2 * kSlots * kKvHeads * kDim);
    std::vector<std::int64_t> host_slots;
    std::vector<std::int32_t> host_position;
    for (int row = 0; row < kMostRows; ++row) {
      host_slots.push_back(slot_of(row));
      host_position.push_back(position_of(row));
    }
    std::vector<float> host_cosine, host_sine;
    for (int at = 0; at < kPositions; ++at) {
      for (int d = 0; d < kDim / 2; ++d) {
        host_cosine.push_back(std::cos(angle_of(at, d)));
        host_sine.push_back(std::sin(angle_of(at, d)));
      }
    }
    slots = DeviceArray<std::int64_t>(host_slots);
    position = DeviceArray<std::int32_t>(host_position);
    cosine = DeviceArray<float>(host_cosine);
    sine = DeviceArray<float>(host_sine);
  }
  // Every seventh row is padding and goes nowhere.
  [[nodiscard]] static std::int64_t slot_of(int row) {
    return row % 7 == 5 ? -1 : kSlots - 1 - row;
  }
  [[nodiscard]] static int position_of(int row) { return row * 5 % kPositions; }
  [[nodiscard]] static float angle_of(int position, int dim) {
    return static_cast<float>(position) * 0.37f / static_cast<float>(1 + dim);
  }

  [[nodiscard]] ThinQkvArgs case_of(int rows, bool norm, bool rotate) const {
    return {.in = kIn,
            .x = dx.get(),
            .x_stride = kStride,
            .weight = dw.get(),
            .to = {.kv = {.pool = {pool.get(), {kLayers, kKvHeads, kDim, kSlots, dtype}},
                          .layer = 1,
                          .rows = rows,
                          .k = nullptr,
                          .v = nullptr,
                          .k_stride = 0,
                          .v_stride = 0,
                          .slots = slots.get(),
                          .dtype = dtype},
                   .heads = kHeads,
                   .q = q.get(),
                   .q_stride = kQStride,
                   .q_weight = norm ? dnorm.get() : nullptr,
                   .k_weight = norm ? dnorm.get() + kDim : nullptr,
                   .epsilon = kEpsilon,
                   .position = position.get(),
                   .cos = rotate ? cosine.get() : nullptr,
                   .sin = rotate ? sine.get() : nullptr}};
  }

  struct Results {
    std::vector<std::uint16_t> q, pool;
  };
  Results run(const ThinQkvArgs& a, Dependent dependent = Dependent::no) {
    q.fill_bytes(0xff);
    pool.fill_bytes(0xff);
    thin_qkv(a, nullptr, dependent);
    return {q.host(), pool.host()};
  }

  // A head of a row after norm and rotation.
  [[nodiscard]] std::vector<double> want(int row, int head, bool norm, bool rotate) const {
    std::vector<double> y(kDim);
    double square = 0;
    for (int d = 0; d < kDim; ++d) {
      for (int k = 0; k < kIn; ++k) {
        y[static_cast<std::size_t>(d)] +=
            double{x.floats[static_cast<std::size_t>(row * kStride + k)]} *
            double{w.floats[static_cast<std::size_t>((head * kDim + d) * kIn + k)]};
      }
      square += y[static_cast<std::size_t>(d)] * y[static_cast<std::size_t>(d)];
    }
    if (head >= kHeads + kKvHeads) return y;
    const int weight = head < kHeads ? 0 : kDim;
    for (int d = 0; norm && d < kDim; ++d) {
      y[static_cast<std::size_t>(d)] *= double{norms.floats[static_cast<std::size_t>(weight + d)]} /
                                        std::sqrt(square / kDim + double{kEpsilon});
    }
    for (int d = 0; rotate && d < kDim / 2; ++d) {
      const double angle = double{angle_of(position_of(row), d)};
      double& low = y[static_cast<std::size_t>(d)];
      double& high = y[static_cast<std::size_t>(d + kDim / 2)];
      const double l = low;
      low = l * std::cos(angle) - high * std::sin(angle);
      high = high * std::cos(angle) + l * std::sin(angle);
    }
    return y;
  }

  RandomStream random{6, "thin qkv"};
  DType dtype = GetParam();
  TypedFloats w = random_typed(std::size_t{kOut} * kIn, dtype, random, 0.05);
  TypedFloats x = random_typed(std::size_t{kMostRows} * kStride, dtype, random);
  TypedFloats norms = random_typed(2 * kDim, dtype, random, 0.3, 1);
  DeviceArray<std::uint16_t> dw, dx, dnorm, q, pool;
  DeviceArray<std::int64_t> slots;
  DeviceArray<std::int32_t> position;
  DeviceArray<float> cosine, sine;
};

INSTANTIATE_TEST_SUITE_P(, ThinQkv, ::testing::Values(DType::f16, DType::bf16),
                         [](const auto& p) { return p.param == DType::f16 ? "f16" : "bf16"; });

TEST_P(ThinQkv, AgreesWithSumsInDouble) {
  const KvLayout layout{kLayers, kKvHeads, kDim, kSlots, dtype};
  for (const auto& [norm, rotate] : {std::pair(true, true), {false, true}, {false, false}}) {
    for (const int rows : {1, 8, 9, 16, 31, 33, 64}) {
      const Results got = run(case_of(rows, norm, rotate));
      double error = 0;
      double size = 0;
      std::vector<bool> written(got.pool.size());
      for (int row = 0; row < rows; ++row) {
        for (int head = 0; head < kHeads + 2 * kKvHeads; ++head) {
          const bool is_q = head < kHeads;
          if (!is_q && slot_of(row) < 0) continue;
          const int part = head >= kHeads + kKvHeads ? 1 : 0;
          const std::int64_t at = is_q ? row * kQStride + head * kDim
                                       : layout.part_offset(1, part) +
                                             slot_of(row) * layout.slot_stride() +
                                             (head - kHeads - part * kKvHeads) * kDim;
          const auto& bits = is_q ? got.q : got.pool;
          for (int d = 0; !is_q && d < kDim; ++d) written[static_cast<std::size_t>(at + d)] = true;
          if (rows > 40 && row % 5 != 0) continue;
          const std::vector<double> y = want(row, head, norm, rotate);
          for (int d = 0; d < kDim; ++d) {
            const double have =
                double{testing::to_float(bits[static_cast<std::size_t>(at + d)], dtype)};
            error +=
                (have - y[static_cast<std::size_t>(d)]) * (have - y[static_cast<std::size_t>(d)]);
            size += y[static_cast<std::size_t>(d)] * y[static_cast<std::size_t>(d)];
          }
        }
      }
      // One rounding, and room of two for the sums.
      EXPECT_LT(std::sqrt(error / size), dtype == DType::f16 ? 6e-4 : 5e-3)
          << rows << " rows, norm " << norm << ", rotation " << rotate;
      for (std::size_t i = 0; i < written.size(); ++i) {
        ASSERT_TRUE(written[i] || got.pool[i] == 0xffff) << "a slot that is nobody's, at " << i;
      }
      for (std::size_t i = 0; i < got.q.size(); ++i) {
        const bool inside =
            i / kQStride < static_cast<std::size_t>(rows) && i % kQStride < kHeads * kDim;
        ASSERT_TRUE(inside || got.q[i] == 0xffff) << "beyond a row of q, at " << i;
      }
    }
  }
}

TEST_P(ThinQkv, ARowsBitsDependOnNoOtherRow) {
  const Results all = run(case_of(kMostRows, true, true));
  for (const int rows : {1, 12, 30, 33, 63}) {
    for (const Dependent dependent : {Dependent::no, Dependent::yes}) {
      const Results got = run(case_of(rows, true, true), dependent);
      ASSERT_TRUE(std::equal(got.q.begin(), got.q.begin() + rows * kQStride, all.q.begin()));
      for (std::size_t i = 0; i < got.pool.size(); ++i) {
        ASSERT_TRUE(got.pool[i] == 0xffff || got.pool[i] == all.pool[i]) << rows << ", at " << i;
      }
    }
  }
}

}  // namespace
}  // namespace kvstow::kernels::cuda
