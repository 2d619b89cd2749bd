// Writes, memory plans and swaps on the GPU, bit for bit against sequential runs on the host.
#include "kernels/cuda/cache_ops.h"

#include <gtest/gtest.h>

#include <cstring>

#include "kernels/reference/reference.h"
#include "tests/cuda/device_case.h"
#include "tests/cuda/typed_floats.h"
#include "tests/kernels/random_plan.h"

namespace kvstow::kernels::cuda {
namespace {

using testing::DeviceArray;
using testing::random_typed;
using testing::TypedFloats;
using Bits = std::vector<std::uint16_t>;

class CacheOnGpu : public ::testing::Test {
 protected:
  void SetUp() override {
    if (!testing::have_device()) GTEST_SKIP() << "skipped: no CUDA device";
  }
};

// Pinned, filled with numbers that name their place.
class HostBuffer {
 public:
  explicit HostBuffer(std::size_t elements) : elements_(elements) {
    KVSTOW_CUDA(cudaMallocHost(&data_, elements * 2));
  }
  ~HostBuffer() { cudaFreeHost(data_); }
  HostBuffer(const HostBuffer&) = delete;
  HostBuffer& operator=(const HostBuffer&) = delete;
  std::uint16_t* get() const { return static_cast<std::uint16_t*>(data_); }
  void operator=(const Bits& bits) { std::memcpy(data_, bits.data(), bits.size() * 2); }
  Bits bits() const { return Bits(get(), get() + elements_); }

 private:
  std::size_t elements_;
  void* data_ = nullptr;
};

Bits random_bits(std::size_t count, RandomStream& random) {
  Bits bits(count);
  for (auto& b : bits) b = static_cast<std::uint16_t>(random.bits() >> 48);
  return bits;
}

// --- Writing ---

struct WriteCase {
  int heads;
  int kv_heads;
  int head_dim;
  bool norm;
  bool rope;
  DType dtype;
};

void check_write(const WriteCase& c, RandomStream& random) {
  constexpr int kRows = 45;
  constexpr int kSlots = 100;
  constexpr int kPositions = 300;
  const int half = c.head_dim / 2;
  const std::int64_t q_width = std::int64_t{c.heads} * c.head_dim;
  const std::int64_t kv_width = std::int64_t{c.kv_heads} * c.head_dim;
  const std::int64_t stride = q_width + 2 * kv_width;  // rows as the projection leaves them
  const TypedFloats qkv = random_typed(static_cast<std::size_t>(kRows * stride), c.dtype, random);
  const TypedFloats qw = random_typed(static_cast<std::size_t>(c.head_dim), c.dtype, random);
  const TypedFloats kw = random_typed(static_cast<std::size_t>(c.head_dim), c.dtype, random);
  std::vector<float> cosine, sine;
  for (int p = 0; p < kPositions; ++p) {
    for (int i = 0; i < half; ++i) {
      const double angle = p * std::pow(1e4, -2.0 * i / c.head_dim);
      cosine.push_back(static_cast<float>(std::cos(angle)));
      sine.push_back(static_cast<float>(std::sin(angle)));
    }
  }
  std::vector<std::int64_t> slots;
  std::vector<std::int32_t> position;
  for (int r = 0; r < kRows; ++r) {
    slots.push_back(r % 7 == 3 ? -1 : (r * 37) % kSlots);
    position.push_back(static_cast<std::int32_t>(random.below(kPositions)));
  }

  const KvLayout layout{2, c.kv_heads, c.head_dim, kSlots, c.dtype};
  KvLayout float_layout = layout;
  float_layout.dtype = DType::f32;
  std::vector<float> rows = qkv.floats;
  const auto normalise = [&](float* x, int heads, const std::vector<float>& weight) {
    reference::norm({NormKind::rms_norm, kRows, heads, c.head_dim, x, stride, weight.data(),
                     nullptr, x, stride, 1e-6f, DType::f32});
  };
  if (c.norm) {
    normalise(rows.data(), c.heads, qw.floats);
    normalise(rows.data() + q_width, c.kv_heads, kw.floats);
  }
  if (c.rope) {
    reference::rope({kRows, c.heads + c.kv_heads, c.head_dim, rows.data(), stride, position.data(),
                     cosine.data(), sine.data(), DType::f32});
  }
  std::vector<float> want(static_cast<std::size_t>(layout.elements()), 7.0f);
  reference::write_kv({{want.data(), float_layout},
                       1,
                       kRows,
                       rows.data() + q_width,
                       rows.data() + q_width + kv_width,
                       stride,
                       stride,
                       slots.data(),
                       DType::f32});

  const DeviceArray<std::uint16_t> on_device(qkv.bits), dqw(qw.bits), dkw(kw.bits);
  const DeviceArray<std::uint16_t> pool(Bits(want.size(), testing::to_bits(7, c.dtype)));
  const DeviceArray<std::int64_t> on_slots(slots);
  const DeviceArray<std::int32_t> on_position(position);
  const DeviceArray<float> on_cosine(cosine), on_sine(sine);
  const WriteKvArgs write{{pool.get(), layout},
                          1,
                          kRows,
                          on_device.get() + q_width,
                          on_device.get() + q_width + kv_width,
                          stride,
                          stride,
                          on_slots.get(),
                          c.dtype};
  if (!c.norm && !c.rope) {
    write_kv(write, nullptr);
  } else {
    rotate_and_write({write, c.heads, on_device.get(), stride, c.norm ? dqw.get() : nullptr,
                      c.norm ? dkw.get() : nullptr, 1e-6f, on_position.get(),
                      c.rope ? on_cosine.get() : nullptr, c.rope ? on_sine.get() : nullptr},
                     nullptr);
  }
  testing::expect_rounded(pool.host(), want, c.dtype, 8, "pool");
  // q in its place; k and v of the projection untouched.
  std::vector<float> after = qkv.floats;
  for (int r = 0; r < kRows; ++r) {
    std::copy_n(rows.begin() + r * stride, q_width, after.begin() + r * stride);
  }
  testing::expect_rounded(on_device.host(), after, c.dtype, 8, "rows");
}

TEST_F(CacheOnGpu, WritesAndRotatesLikeTheReference) {
  RandomStream random(2, "writes");
  for (const DType dtype : {DType::f16, DType::bf16}) {
    check_write({40, 40, 128, false, false, dtype}, random);  // OPT
    check_write({32, 8, 128, false, true, dtype}, random);    // Llama
    check_write({16, 8, 128, true, true, dtype}, random);     // Qwen3
    for (const int dim : {16, 48, 64, 80, 96, 256}) {
      check_write({6, 2, dim, true, true, dtype}, random);
      check_write({3, 1, dim, false, false, dtype}, random);
    }
  }
}

// --- Memory plans ---

// The plan in order, on a device pool as it lies and a host pool that is slot-major.
void run_in_order(const MemPlan& plan, const KvLayout& device_layout, Bits& device, Bits& host) {
  const std::int64_t width = device_layout.slot_stride();
  const std::int64_t planes = 2 * device_layout.layers;
  for (const MemOp& op : plan.ops()) {
    if (is_free(op.kind)) continue;
    for (std::int64_t i = 0; i < op.length.count(); ++i) {
      for (std::int64_t plane = 0; plane < planes; ++plane) {
        const auto on_device = [&](Slot s) {
          return device.begin() + (plane * device_layout.slots + s.index() + i) * width;
        };
        const auto on_host = [&](Slot s) {
          return host.begin() + ((s.index() + i) * planes + plane) * width;
        };
        if (op.kind == MemOpKind::copy) std::copy_n(on_device(op.src), width, on_device(op.dst));
        if (op.kind == MemOpKind::swap_out) std::copy_n(on_device(op.src), width, on_host(op.dst));
        if (op.kind == MemOpKind::swap_in) std::copy_n(on_host(op.src), width, on_device(op.dst));
      }
    }
  }
}

void check_random_plans(cudaStream_t stream) {
  RandomStream random(9, "plans on the GPU");
  const int plans = testing::from_environment("KVSTOW_TEST_PLANS", 1000);
  ::testing::Test::RecordProperty("plans", plans);
  for (int round = 0; round < plans; ++round) {
    const KvLayout layout{1 + static_cast<int>(random.below(3)),
                          1 + static_cast<int>(random.below(3)),
                          8 * (1 + static_cast<int>(random.below(6))),
                          20 + static_cast<std::int64_t>(random.below(60)), DType::f16};
    KvLayout host_layout = layout;
    host_layout.slots = 12 + random.below(30);
    const MemPlan plan = random_plan(random, {layout.slots, host_layout.slots},
                                     1 + static_cast<int>(random.below(60)), 10);
    Bits device = random_bits(static_cast<std::size_t>(layout.elements()), random);
    Bits host = random_bits(static_cast<std::size_t>(host_layout.elements()), random);
    const DeviceArray<std::uint16_t> pool(device);
    HostBuffer pinned(host.size());
    pinned = host;
    const std::int64_t room = 1 + random.below(20);
    const DeviceArray<std::uint16_t> staging(
        static_cast<std::size_t>(room * slot_bytes_of_all_layers(layout) / 2));
    run_mem_plan(level_plan(plan.ops()), {pool.get(), layout}, {pinned.get(), host_layout},
                 {staging.get(), room}, stream);
    KVSTOW_CUDA(cudaDeviceSynchronize());
    run_in_order(plan, layout, device, host);
    ASSERT_EQ(pool.host(), device) << round;
    ASSERT_EQ(pinned.bits(), host) << round;
  }
}

TEST_F(CacheOnGpu, RandomPlansMoveWhatASequentialRunMoves) {
  check_random_plans(nullptr);
}

TEST_F(CacheOnGpu, RandomPlansOnAStreamOfTheirOwn) {  // where swaps are batches
  cudaStream_t own = nullptr;
  KVSTOW_CUDA(cudaStreamCreate(&own));
  check_random_plans(own);
  KVSTOW_CUDA(cudaStreamDestroy(own));
}

TEST_F(CacheOnGpu, GathersWhatASwapSends) {
  const KvLayout layout{3, 2, 48, 300, DType::f16};
  RandomStream random(8, "gather");
  const Bits device = random_bits(static_cast<std::size_t>(layout.elements()), random);
  const DeviceArray<std::uint16_t> pool(device);
  MemPlan plan;
  plan.swap_out(Slot(7), Slot(40), Tokens(100));
  plan.swap_out(Slot(290), Slot(0), Tokens(1));
  plan.swap_out(Slot(120), Slot(10), Tokens(16));
  Bits want;
  for (const MemOp& op : plan.ops()) {
    for (std::int64_t slot = op.src.index(); slot < op.src.index() + op.length.count(); ++slot) {
      for (std::int64_t plane = 0; plane < 2 * layout.layers; ++plane) {
        const auto from = device.begin() + (plane * layout.slots + slot) * layout.slot_stride();
        want.insert(want.end(), from, from + layout.slot_stride());
      }
    }
  }
  const DeviceArray<std::uint16_t> staging(want.size());
  gather_slots(plan.ops(), {pool.get(), layout}, {staging.get(), 117}, nullptr);
  EXPECT_EQ(staging.host(), want);
  EXPECT_THROW(gather_slots(plan.ops(), {pool.get(), layout}, {staging.get(), 116}, nullptr),
               std::invalid_argument);
}

TEST_F(CacheOnGpu, MoreCopiesThanOneLaunchTakes) {
  const KvLayout layout{2, 1, 16, 12000, DType::bf16};
  RandomStream random(4, "many copies");
  Bits device = random_bits(static_cast<std::size_t>(layout.elements()), random);
  Bits host(16);
  MemPlan plan;
  for (int i = 0; i < 5000; ++i) plan.copy(Slot(2 * i % 6000), Slot(6000 + i), Tokens(1));
  const DeviceArray<std::uint16_t> pool(device);
  const LevelledPlan levelled = level_plan(plan.ops());
  ASSERT_EQ(levelled.levels(), 1u);
  copy_slots(levelled.level(0), {pool.get(), layout}, nullptr);
  run_in_order(plan, layout, device, host);
  EXPECT_EQ(pool.host(), device);
}

TEST_F(CacheOnGpu, ThePapersWayMovesTheSameBlocks) {
  const KvLayout layout{3, 2, 64, 160, DType::f16};
  RandomStream random(6, "blocks");
  const Bits device = random_bits(static_cast<std::size_t>(layout.elements()), random);
  const DeviceArray<std::uint16_t> pool(device);
  HostBuffer pinned(device.size());
  pinned = Bits(device.size());
  MemPlan out, in;
  out.swap_out(Slot(16), Slot(64), Tokens(40));
  in.swap_in(Slot(64), Slot(112), Tokens(40));
  swap_block_by_block(out.ops(), 16, {pool.get(), layout}, {pinned.get(), layout}, nullptr);
  swap_block_by_block(in.ops(), 16, {pool.get(), layout}, {pinned.get(), layout}, nullptr);
  KVSTOW_CUDA(cudaDeviceSynchronize());
  Bits want = device;
  const std::int64_t width = layout.slot_stride();
  for (std::int64_t plane = 0; plane < 2 * layout.layers; ++plane) {
    const auto at = [&](std::int64_t slot) { return (plane * layout.slots + slot) * width; };
    std::copy_n(device.begin() + at(16), 40 * width, want.begin() + at(112));
  }
  EXPECT_EQ(pool.host(), want);
}

TEST_F(CacheOnGpu, RefusesToLeaveThePool) {
  const KvLayout layout{1, 1, 16, 10, DType::f16};
  MemPlan plan;
  plan.copy(Slot(0), Slot(9), Tokens(2));
  EXPECT_THROW(copy_slots(plan.ops(), {nullptr, layout}, nullptr), std::invalid_argument);
  plan.clear();
  plan.swap_in(Slot(10), Slot(0), Tokens(1));
  EXPECT_THROW(swap_in(plan.ops(), {nullptr, layout}, {nullptr, layout}, {nullptr, 4}, nullptr),
               std::invalid_argument);
}

}  // namespace
}  // namespace kvstow::kernels::cuda
