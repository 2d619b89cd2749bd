// Sampling on the GPU against the engine's definition. A draw may differ only where the random
// number stands at the boundary between two tokens, and then the token must be the neighbour.
#include "kernels/cuda/sampling.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <numeric>

#include "core/exec/rows/sampling.h"
#include "tests/cuda/device_case.h"
#include "tests/cuda/typed_floats.h"

namespace kvstow::kernels::cuda {
namespace {

using testing::DeviceArray;

constexpr std::uint64_t kSeed = 99;

class SamplingOnGpu : public ::testing::Test {
 protected:
  void SetUp() override {
    if (!testing::have_device()) GTEST_SKIP() << "skipped: no CUDA device";
  }
};

struct Drawn {
  std::vector<std::int32_t> token;
  std::vector<float> logprob;
};

// logits: [rows, vocab] in f32, or bits of the dtype.
template <class E>
Drawn draw(const std::vector<E>& logits, int vocab, std::int64_t stride, DType dtype,
           const std::vector<SamplingRow>& rows) {
  const DeviceArray<E> on_device(logits);
  const DeviceArray<SamplingRow> on_rows(rows);
  DeviceArray<std::int32_t> token(rows.size());
  DeviceArray<float> logprob(rows.size());
  token.fill_bytes(0xee);
  logprob.fill_bytes(0xee);
  sample_tokens({static_cast<int>(rows.size()), vocab, on_device.get(), stride, dtype,
                 on_rows.get(), kSeed, token.get(), logprob.get()},
                nullptr);
  return {token.host(), logprob.host()};
}

double uniform_of(const SamplingRow& r) {
  return uniform_for(kSeed, RequestId(r.request), r.sample, Tokens(r.output_position));
}

// The interval of random numbers that give `token`, in the order in which the engine draws.
struct Interval {
  double low;
  double high;
};
Interval interval_of(const std::vector<float>& logits, const SamplingRow& r, std::int32_t token) {
  std::vector<std::int32_t> order(logits.size());
  std::iota(order.begin(), order.end(), 0);
  if (r.top_k > 0 || r.top_p < 1) {
    std::stable_sort(order.begin(), order.end(),
                     [&](auto a, auto b) { return logits[a] > logits[b]; });
    if (r.top_k > 0) order.resize(std::min(order.size(), static_cast<std::size_t>(r.top_k)));
  }
  const float largest = *std::max_element(logits.begin(), logits.end());
  std::vector<double> cumulative;
  double sum = 0;
  for (const auto t : order) {
    cumulative.push_back(sum += std::exp((double{logits[t]} - double{largest}) / r.temperature));
  }
  if (r.top_p < 1) {
    const auto last = std::lower_bound(cumulative.begin(), cumulative.end(), r.top_p * sum);
    cumulative.erase(last + 1, cumulative.end());
    sum = cumulative.back();
  }
  const auto at = std::find(order.begin(), order.end(), token) - order.begin();
  if (at >= std::ssize(cumulative)) return {2, 2};  // filtered out
  return {at == 0 ? 0 : cumulative[at - 1] / sum, cumulative[at] / sum};
}

TEST_F(SamplingOnGpu, DrawsWhatTheEngineDraws) {
  RandomStream random(17, "sampling");
  int differing = 0;
  int draws = 0;
  int left = testing::from_environment("KVSTOW_TEST_SHAPES", 100);
  for (const int vocab : {1, 7, 1000, 32000, 50272, 151936}) {
    for (const DType dtype : {DType::f32, DType::f16, DType::bf16}) {
      if (left-- <= 0) break;
      const std::int64_t stride = (vocab + 7) / 8 * 8 + 8;
      std::vector<SamplingRow> rows;
      for (int i = 0; i < 24; ++i) {
        SamplingRow r{
            0.6 + 0.1 * (i % 5),           1,  0,
            static_cast<std::uint32_t>(i), 3u, static_cast<std::int32_t>(random.below(900))};
        if (i % 4 == 0) r.temperature = 0;
        if (i % 3 == 1) r.top_k = 1 + static_cast<int>(random.below(80));
        if (i % 6 >= 4) r.top_p = 0.05 + 0.9 * random.uniform();
        rows.push_back(r);
      }
      std::vector<std::uint16_t> bits(rows.size() * stride, 0x7fff);  // NaN beyond the vocabulary
      std::vector<float> floats(bits.size(), std::nanf(""));
      for (std::size_t row = 0; row < rows.size(); ++row) {
        for (int t = 0; t < vocab; ++t) {
          const auto x = static_cast<float>(2.5 * random.normal());
          const std::size_t at = row * stride + t;
          if (dtype == DType::f32) {
            floats[at] = x;
          } else {
            bits[at] = testing::to_bits(x, dtype);
            floats[at] = testing::to_float(bits[at], dtype);
          }
        }
      }
      const Drawn got = dtype == DType::f32 ? draw(floats, vocab, stride, dtype, rows)
                                            : draw(bits, vocab, stride, dtype, rows);
      for (std::size_t row = 0; row < rows.size(); ++row) {
        const SamplingRow& r = rows[row];
        const std::vector<float> logits(floats.begin() + row * stride,
                                        floats.begin() + row * stride + vocab);
        const double u = uniform_of(r);
        const DrawnToken want = draw_token(logits, {r.temperature, r.top_k, r.top_p}, u);
        ++draws;
        ASSERT_GE(got.token[row], 0);
        ASSERT_LT(got.token[row], vocab);
        const double log_gap = double{logits[got.token[row]]} - double{logits[want.token]};
        ASSERT_NEAR(got.logprob[row], want.logprob + log_gap, 2e-5);
        if (got.token[row] == want.token) continue;
        ++differing;
        ASSERT_GT(r.temperature, 0) << "greedy has no boundaries";
        const Interval i = interval_of(logits, r, got.token[row]);
        ASSERT_GE(u, i.low - 2e-6) << vocab << " row " << row;
        ASSERT_LE(u, i.high + 2e-6) << vocab << " row " << row;
      }
    }
  }
  std::printf("%d of %d draws at a boundary\n", differing, draws);
  EXPECT_LE(differing, draws / 100);
}

TEST_F(SamplingOnGpu, TiesGoToTheSmallerToken) {
  std::vector<float> logits(1000, 1.0f);
  logits[0] = -1;
  logits[17] = 2;
  logits[400] = 2;
  const std::vector<SamplingRow> rows{
      {0, 1, 0, 0, 0, 0}, {1, 1, 1, 1, 0, 0}, {1, 1e-9, 0, 2, 0, 0}};
  std::vector<float> all;
  for (std::size_t i = 0; i < rows.size(); ++i) all.insert(all.end(), logits.begin(), logits.end());
  const Drawn got = draw(all, 1000, 1000, DType::f32, rows);
  EXPECT_EQ(got.token, (std::vector<std::int32_t>{17, 17, 17}));
}

TEST_F(SamplingOnGpu, TopKOfEqualTokensKeepsTheSmallestIds) {
  const std::vector<float> logits(64, 0.5f);
  std::vector<SamplingRow> rows;
  std::vector<float> all;
  for (std::uint32_t i = 0; i < 200; ++i) {
    rows.push_back({1, 1, 5, i, 0, 0});
    all.insert(all.end(), logits.begin(), logits.end());
  }
  const Drawn got = draw(all, 64, 64, DType::f32, rows);
  std::vector<int> count(5);
  for (std::size_t i = 0; i < rows.size(); ++i) {
    ASSERT_LT(got.token[i], 5);
    ++count[got.token[i]];
    EXPECT_EQ(got.token[i], static_cast<int>(5 * uniform_of(rows[i])));
  }
  EXPECT_GT(*std::min_element(count.begin(), count.end()), 15);
}

TEST_F(SamplingOnGpu, ALogitThatIsNotFiniteGivesNoToken) {
  std::vector<float> logits(304, 0.0f);
  logits[256] = std::nanf("");
  const Drawn got = draw(logits, 300, 304, DType::f32, {{1, 1, 0, 0, 0, 0}});
  EXPECT_EQ(got.token[0], -1);
  EXPECT_TRUE(std::isnan(got.logprob[0]));
}

}  // namespace
}  // namespace kvstow::kernels::cuda
