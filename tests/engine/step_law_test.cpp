// The laws of bench/devices give back the constants they were made from.
#include <gtest/gtest.h>

#include "core/config/device_config.h"
#include "core/config/model_config.h"

namespace kvstow {
namespace {

const std::string kRoot = std::string(KVSTOW_SOURCE_DIR) + "/bench/";

StepLaw law_of(const std::string& device, const std::string& law, const std::string& model,
               const KvShape& kv = {}, bool fitted = true) {
  const ModelConfig config = read_model(ConfigNode::load_file(kRoot + "models/" + model + ".yaml"));
  const DeviceProfile profile =
      read_device(ConfigNode::load_file(kRoot + "devices/" + device + ".yaml"));
  const ModelShape shape{.name = model,
                         .layers = config.layers,
                         .hidden = config.hidden,
                         .parameters = config.parameters,
                         .element_bytes = config.element_bytes(),
                         .kv_bytes_per_token = config.kv_bytes_per_token(),
                         .tensor_parallel = config.server(device)->tensor_parallel};
  return make_step_law(profile, law, shape, kv, fitted);
}

Step decode_step(std::int64_t sequences, std::int64_t context) {
  Step step;
  step.totals = {.groups = sequences,
                 .sequences = sequences,
                 .prompt_tokens = Tokens(0),
                 .decode_tokens = Tokens(sequences),
                 .kv_read = Tokens(sequences * context),
                 .recomputed = Tokens(0)};
  return step;
}

// The constants that bench/devices/a100-40gb.yaml derives its shares from.
TEST(StepLaw, MaxFormOfOpt13b) {
  const StepLaw law = law_of("a100-40gb", "max", "opt-13b");
  EXPECT_NEAR(law.fixed, 8.6e-3, 1e-5);
  EXPECT_NEAR(law.per_group, 0.27e-3, 1e-9);
  EXPECT_NEAR(law.per_sequence, 0.08e-3, 1e-9);
  EXPECT_NEAR(law.weight_read, 18.4e-3, 1e-5);
  EXPECT_NEAR(law.per_token, 0.137e-3, 1e-7);
  EXPECT_NEAR(law.per_kv_token, 0.66e-6, 1e-9);
}

TEST(StepLaw, LinearFormOfOpt13b) {
  const StepLaw law = law_of("a100-40gb", "linear", "opt-13b");
  EXPECT_NEAR(law.fixed + law.weight_read, 27e-3, 1e-5);
  EXPECT_NEAR(law.per_token, 0.13e-3, 1e-7);
  EXPECT_NEAR(law.per_kv_token, 0.66e-6, 1e-9);
}

TEST(StepLaw, FasterTransformerOfOpt13b) {
  const StepLaw law = law_of("a100-40gb", "faster-transformer", "opt-13b");
  EXPECT_NEAR(law.fixed + law.weight_read, 19.5e-3, 1e-5);
  EXPECT_NEAR(law.per_kv_token, 0.7e-6, 1e-9);
  EXPECT_NEAR(law.per_token, 0.13e-3, 1e-7);
}

// 341 tokens of OPT-13B are 7 MB a layer, within the A100's 40 MB of L2; 2048 are 42 MB.
TEST(StepLaw, ASharedPrefixIsReadFromL2WhereItFits) {
  const auto ratio = [](const std::string& law, int prefix) {
    const StepLaw made = law_of("a100-40gb", law, "opt-13b", {.shared_prefix = Tokens(prefix)});
    return made.per_prefix_token / made.per_kv_token;
  };
  EXPECT_NEAR(ratio("max", 341), 1.555 / 7.2, 1e-6);
  EXPECT_EQ(ratio("max", 2048), 1);
  EXPECT_EQ(ratio("max-no-l2", 341), 1);

  const StepLaw law = law_of("a100-40gb", "max", "opt-13b", {.shared_prefix = Tokens(341)});
  Step step = decode_step(10, 400);
  const Seconds apart = law.step_time(step);
  step.totals.prefix_read = Tokens(10 * 341);
  EXPECT_NEAR(apart - law.step_time(step), 3410 * (law.per_kv_token - law.per_prefix_token), 1e-9);
}

TEST(StepLaw, KernelCurveScalesOnlyTheKvRead) {
  const auto kv = [](int block) {
    return law_of("a100-40gb", "max-kernel-curve", "opt-13b", {.block_tokens = Tokens(block)})
               .per_kv_token /
           0.66e-6;
  };
  EXPECT_NEAR(kv(16), 1, 1e-3);
  EXPECT_NEAR(kv(1), 3.2, 1e-2);
  EXPECT_NEAR(kv(3), 2.8, 1e-2);
  EXPECT_NEAR(kv(1000), 0.93, 1e-2);
  const StepLaw curved =
      law_of("a100-40gb", "max-kernel-curve", "opt-13b", {.block_tokens = Tokens(1)});
  const StepLaw plain = law_of("a100-40gb", "max", "opt-13b", {.block_tokens = Tokens(1)});
  EXPECT_EQ(curved.fixed + curved.weight_read, plain.fixed + plain.weight_read);
  EXPECT_NEAR(plain.per_kv_token, 0.66e-6, 1e-9);
}

// The one fitted factor of each larger model is fitted to its low-load step and to nothing else.
TEST(StepLaw, LowLoadStepOfLargerModels) {
  const Step low_load = decode_step(2, 460);
  EXPECT_NEAR(law_of("a100-40gb", "max", "opt-66b").step_time(low_load), 53e-3, 0.5e-3);
  EXPECT_NEAR(law_of("a100-80gb", "max", "opt-175b").step_time(low_load), 86e-3, 0.5e-3);
  EXPECT_NEAR(law_of("a100-40gb", "faster-transformer", "opt-66b").fixed, 33e-3, 0.1e-3);
  EXPECT_NEAR(law_of("a100-80gb", "faster-transformer", "opt-175b").fixed, 40e-3, 0.1e-3);
  const StepLaw unfitted = law_of("a100-40gb", "max", "opt-66b", {}, false);
  EXPECT_LT(unfitted.fixed, law_of("a100-40gb", "max", "opt-66b").fixed);
}

// OPT-66B on four A100s: two all-reduces of a token's 9216 hidden elements in each of 64 layers, of
// which a ring of four moves 2 * 3/4; a link for each GPU.
TEST(StepLaw, FourDevicesReduceAndHaveFourLinks) {
  const StepLaw law = law_of("a100-40gb", "max", "opt-66b");
  const double flops = 2 * 65'719'701'504.0 / (4 * 3.12e14 * 0.6014);
  EXPECT_NEAR(law.per_token, flops + 2 * 64 * (9216 * 2) * 1.5 / 1.65e11, 1e-9);
  EXPECT_EQ(law.link.bytes_per_s_in, 4 * 1.212e10);
  EXPECT_EQ(law.link.bytes_per_s_out, 4 * 1.303e10);
  // A copy reads and writes.
  EXPECT_NEAR(law_of("a100-40gb", "max", "opt-13b").per_copied_token, 2 * 819'200 / 1.555e12,
              1e-12);
}

TEST(StepLaw, EveryTermByHand) {
  StepLaw law{.form = StepForm::max,
              .fixed = 1,
              .per_group = 10,
              .per_sequence = 100,
              .weight_read = 5,
              .per_token = 2,
              .per_kv_token = 0.5,
              .per_prefix_token = 0.25,
              .per_copied_token = 3,
              .kv_bytes_per_token = Bytes(10),
              .link = {.bytes_per_s_in = 1, .bytes_per_s_out = 1}};
  Step step;
  step.totals = {.groups = 2,
                 .sequences = 3,
                 .prompt_tokens = Tokens(4),
                 .decode_tokens = Tokens(3),
                 .kv_read = Tokens(20),
                 .prefix_read = Tokens(8)};
  step.plan.copy(Slot(0), Slot(16), Tokens(2));
  step.plan.swap_out(Slot(32), Slot(0), Tokens(16));
  const Seconds either = 1 + 20 + 300 + 0.5 * 12 + 0.25 * 8 + 3 * 2;
  EXPECT_DOUBLE_EQ(law.step_time(step), either + 2 * 7);  // more than the weights; swaps hidden
  law.form = StepForm::linear;
  EXPECT_DOUBLE_EQ(law.step_time(step), either + 5 + 2 * 4 + 160);  // prompts alone compute
}

// Fig. 19a: 256 tokens, one copy for each block, layer and part.
TEST(StepLaw, LinkOfFig19a) {
  StepLaw law = law_of("a100-40gb", "max", "opt-13b");
  law.link.copies_per_block = 80;
  law.block_tokens = Tokens(1);
  EXPECT_NEAR(law.link_time(Tokens(256), Tokens(0)), 82.0e-3, 0.05 * 82e-3);
  EXPECT_NEAR(law.link_time(Tokens(256), Tokens(256)), 137.4e-3, 0.05 * 137.4e-3);
  law.block_tokens = Tokens(256);
  EXPECT_NEAR(law.link_time(Tokens(256), Tokens(0)), 17.3e-3, 0.05 * 17.3e-3);
}

TEST(StepLaw, SwapsHideBehindTheStepInTheMaxForm) {
  const StepLaw law = law_of("a100-40gb", "max", "opt-13b");
  Step step = decode_step(1, 100);
  const Seconds alone = law.step_time(step);
  step.plan.swap_out(Slot(0), Slot(0), Tokens(16));
  EXPECT_EQ(law.step_time(step), alone);
  step.plan.swap_out(Slot(16), Slot(16), Tokens(1024));
  EXPECT_EQ(law.step_time(step), law.link_time(Tokens(0), Tokens(1040)));
}

}  // namespace
}  // namespace kvstow
