// Bad checkpoints: each is one clear InputError that names the file, and the tensor or key.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>

#include "core/check.h"
#include "core/exec/model/safetensors.h"
#include "core/exec/model/weights.h"

namespace kvstow {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

template <class F>
std::string error_of(F&& f) {
  try {
    f();
  } catch (const InputError& error) {
    EXPECT_THAT(error.what(), ::testing::Not(HasSubstr("\n")));
    return error.what();
  }
  return "no error";
}

std::vector<std::byte> container(const std::string& header, std::size_t data_bytes,
                                 std::uint64_t claimed = 0) {
  std::vector<std::byte> bytes(8 + header.size() + data_bytes);
  const std::uint64_t length = claimed == 0 ? header.size() : claimed;
  for (std::size_t i = 0; i < 8; ++i) bytes[i] = static_cast<std::byte>(length >> (8 * i));
  std::transform(header.begin(), header.end(), bytes.begin() + 8,
                 [](char c) { return static_cast<std::byte>(c); });
  return bytes;
}

std::string parse_error(const std::string& header, std::size_t data_bytes,
                        std::uint64_t claimed = 0) {
  const std::vector<std::byte> bytes = container(header, data_bytes, claimed);
  return error_of([&] { Safetensors(bytes, "w.safetensors"); });
}

const std::string kGood = R"({"a":{"dtype":"F32","shape":[2,3],"data_offsets":[0,24]}})";

TEST(Safetensors, GoodOnesAreRead) {
  EXPECT_EQ(parse_error(kGood, 24), "no error");
  EXPECT_EQ(parse_error(R"({"__metadata__":{"x":"y"}})", 0), "no error");
  EXPECT_EQ(parse_error(R"({"e":{"dtype":"F16","shape":[0,3],"data_offsets":[0,0]}})", 0),
            "no error");
}

TEST(Safetensors, LyingHeadersAreNamed) {
  const auto entry = [](const std::string& body) { return R"({"a":{)" + body + "}}"; };
  struct Case {
    std::string header;
    std::size_t data;
    std::uint64_t claimed;
    const char* says;
  };
  for (const Case& c : std::vector<Case>{
           {"", 0, 5, "truncated or not safetensors"},
           {kGood, 24, std::uint64_t{1} << 63, "truncated or not safetensors"},
           {kGood, 24, 1000, "truncated or not safetensors"},
           {"[1,2]", 0, 0, "not a JSON object"},
           {"{\"a\"", 0, 0, "not a JSON object"},
           {std::string(100000, '['), 0, 0, "not a JSON object"},
           {R"({"a":1})", 0, 0, "needs dtype, shape"},
           {entry(R"("dtype":"F32","shape":[2,3])"), 24, 0, "needs dtype, shape"},
           {entry(R"("dtype":"F31","shape":[2,3],"data_offsets":[0,24])"), 24, 0, "unknown dtype"},
           {entry(R"("dtype":"F32","shape":[2,-3],"data_offsets":[0,24])"), 24, 0, "list of sizes"},
           {entry(R"("dtype":"F32","shape":[2,1.5],"data_offsets":[0,12])"), 12, 0,
            "list of sizes"},
           {entry(R"("dtype":"F32","shape":[2,3],"data_offsets":[0,25])"), 25, 0, "needs 24"},
           {entry(R"("dtype":"F32","shape":[2,3],"data_offsets":[24,0])"), 24, 0, "outside"},
           {entry(R"("dtype":"F32","shape":[2,3],"data_offsets":[0,24])"), 20, 0, "asks for more"},
           {entry(R"("dtype":"F32","shape":[2,3],"data_offsets":[8,32])"), 24, 0, "truncated"},
           {entry(R"("dtype":"F32","shape":[2,3],"data_offsets":[4,28])"), 28, 0, "gap"},
           {entry(R"("dtype":"F32","shape":[2,3],"data_offsets":[0])"), 24, 0, "pair of sizes"},
           {entry(R"("dtype":"F32","shape":[4294967296,4294967296,4],"data_offsets":[0,0])"), 64, 0,
            "asks for more"},
           {entry(R"("dtype":"F32","shape":[18446744073709551615],"data_offsets":[0,4])"), 4, 0,
            "asks for more"},
           {kGood, 30, 0, "6 bytes after the last tensor"},
           {R"({"a":{"dtype":"U8","shape":[4],"data_offsets":[0,4]},)"
            R"("b":{"dtype":"U8","shape":[4],"data_offsets":[2,6]}})",
            6, 0, "tensor b: overlaps"},
       }) {
    EXPECT_THAT(parse_error(c.header, c.data, c.claimed),
                AllOf(HasSubstr("w.safetensors: "), HasSubstr(c.says)))
        << c.header.substr(0, 80);
  }
}

TEST(Safetensors, EveryTruncationOfAGoodFileIsAnError) {
  const std::vector<std::byte> good = container(kGood, 24);
  for (std::size_t size = 0; size < good.size(); ++size) {
    const std::vector<std::byte> cut(good.begin(),
                                     good.begin() + static_cast<std::ptrdiff_t>(size));
    EXPECT_NE(error_of([&] { Safetensors(cut, "w.safetensors"); }), "no error") << size;
  }
}

TEST(Safetensors, ReadChecksNameShapeTypeAndValues) {
  const std::string header =
      R"({"layer.weight":{"dtype":"F16","shape":[2,2],"data_offsets":[0,8]},)"
      R"("ids":{"dtype":"I32","shape":[1],"data_offsets":[8,12]}})";
  std::vector<std::byte> bytes = container(header, 12);
  const auto put = [&](std::size_t i, std::uint16_t half) {
    bytes[8 + header.size() + 2 * i] = static_cast<std::byte>(half & 0xff);
    bytes[8 + header.size() + 2 * i + 1] = static_cast<std::byte>(half >> 8);
  };
  put(0, 0x3c00);  // 1
  put(1, 0xc500);  // -5
  put(2, 0x0001);  // smallest subnormal, 2^-24
  put(3, 0x7bff);  // largest, 65504
  const Safetensors file(bytes, "w.safetensors");
  std::vector<float> out(4);
  const std::int64_t shape[] = {2, 2};
  file.read("layer.weight", shape, out);
  EXPECT_EQ(out, (std::vector<float>{1, -5, 0x1p-24f, 65504}));
  const auto stored = file.bytes("layer.weight", shape, TensorType::f16);
  EXPECT_TRUE(std::equal(stored.begin(), stored.end(), bytes.end() - 12, bytes.end() - 4));
  EXPECT_TRUE(file.bytes("layer.weight", shape, TensorType::bf16).empty());

  const std::int64_t other[] = {4};
  const std::int64_t one[] = {1};
  EXPECT_THAT(error_of([&] { file.read("layer.weight", other, out); }),
              HasSubstr("tensor layer.weight: has shape [2, 2], but config.json asks for [4]"));
  EXPECT_THAT(error_of([&] { file.read("layer.weigth", shape, out); }),
              HasSubstr("tensor layer.weigth: missing (nearest: layer.weight)"));
  EXPECT_THAT(error_of([&] { file.read("ids", one, std::span(out).first(1)); }),
              HasSubstr("dtype I32 cannot be a weight"));
  for (const std::uint16_t bad :
       std::initializer_list<std::uint16_t>{0x7c00, 0xfc00, 0x7e00}) {  // inf, -inf, NaN
    put(2, bad);
    EXPECT_THAT(error_of([&] { file.read("layer.weight", shape, out); }),
                HasSubstr("tensor layer.weight: element 2 is"));
    EXPECT_THAT(error_of([&] { (void)file.bytes("layer.weight", shape, TensorType::f16); }),
                HasSubstr("tensor layer.weight: element 2 is"));
  }
}

std::string config_error(const std::string& text) {
  return error_of([&] { (void)parse_hf_config(text, "config.json"); });
}

std::string llama_config(const std::string& changed) {
  return R"({"model_type":"llama","num_hidden_layers":2,"hidden_size":64,"num_attention_heads":4,)"
         R"("vocab_size":100,"max_position_embeddings":128,"intermediate_size":96)" +
         changed + "}";
}

TEST(HfConfig, WhatWeCannotComputeIsRefusedByName) {
  EXPECT_EQ(config_error(llama_config("")), "no error");
  for (const auto& [text, says] : std::vector<std::pair<std::string, std::string>>{
           {"{", "not a JSON object"},
           {"{}", "`model_type` is missing"},
           {R"({"model_type":"qwen2"})", "nearest: qwen3"},
           {R"({"model_type":"llama"})", "`num_hidden_layers` is missing"},
           {llama_config(R"(,"num_key_value_heads":3)"), "not a multiple of 3"},
           {llama_config(R"(,"num_key_value_heads":0)"), "key/value heads 0"},
           {llama_config(R"(,"head_dim":"x")"), "`head_dim` must be an integer"},
           {llama_config(R"(,"head_dim":9)"), "even head dimension"},
           {llama_config(R"(,"hidden_act":"gelu")"), "`hidden_act`: \"gelu\" is not supported"},
           {llama_config(R"(,"mlp_bias":true)"), "`mlp_bias`"},
           {llama_config(R"(,"rope_scaling":{"rope_type":"llama3"})"), "`rope_type`"},
           {llama_config(R"(,"rms_norm_eps":0)"), "norm epsilon"},
           {R"({"model_type":"llama","num_hidden_layers":99999999999})", "out of range"},
           {R"({"model_type":"llama","num_hidden_layers":-1})", "out of range"},
           {R"({"model_type":"opt","num_hidden_layers":2,"hidden_size":64,"vocab_size":9,)"
            R"("num_attention_heads":4,"max_position_embeddings":9,"ffn_dim":9,)"
            R"("do_layer_norm_before":false})",
            "`do_layer_norm_before`: false is not supported"},
       }) {
    EXPECT_THAT(config_error(text), AllOf(HasSubstr("config.json: "), HasSubstr(says))) << text;
  }
}

class CheckpointFolder : public ::testing::Test {
 protected:
  void SetUp() override {
    folder_ = ::testing::TempDir() + "/kvstow_checkpoint_" +
              ::testing::UnitTest::GetInstance()->current_test_info()->name();
    std::filesystem::remove_all(folder_);
    std::filesystem::create_directories(folder_);
  }
  void TearDown() override { std::filesystem::remove_all(folder_); }

  void write(const std::string& name, const std::string& text) const {
    std::ofstream(folder_ + "/" + name, std::ios::binary) << text;
  }
  [[nodiscard]] std::string error() const {
    return error_of([&] {
      std::vector<float> out(6);
      open_checkpoint(folder_)->read({"a", {2, 3}}, out);
    });
  }

  std::string folder_;
};

TEST_F(CheckpointFolder, MissingAndMalformedFilesAreNamed) {
  EXPECT_THAT(error(), HasSubstr("/model.safetensors: cannot be read"));
  write("model.safetensors", "");
  EXPECT_THAT(error(), HasSubstr("/model.safetensors: too short"));

  write("model.safetensors.index.json", "{}");
  EXPECT_THAT(error(), HasSubstr("index.json: needs an object `weight_map`"));
  write("model.safetensors.index.json", R"({"weight_map":{"a":"../elsewhere"}})");
  EXPECT_THAT(error(), HasSubstr("tensor a: not a file of this folder"));
  write("model.safetensors.index.json", R"({"weight_map":{"a":"gone.safetensors"}})");
  EXPECT_THAT(error(), HasSubstr("/gone.safetensors: cannot be read"));

  const std::vector<std::byte> good = container(kGood, 24);
  write("s.safetensors", std::string(reinterpret_cast<const char*>(good.data()), good.size()));
  write("model.safetensors.index.json", R"({"weight_map":{"b":"s.safetensors"}})");
  EXPECT_THAT(error(), HasSubstr("index.json: tensor a: missing (nearest: b)"));
  write("model.safetensors.index.json", R"({"weight_map":{"a":"s.safetensors"}})");
  EXPECT_EQ(error(), "no error");
}

TEST(RandomWeights, DoNotDependOnEachOtherAndHaveUnitGain) {
  const auto source = random_weights(7);
  std::vector<float> matrix(64 * 400);
  std::vector<float> again(matrix.size());
  std::vector<float> norm(64);
  source->read({"m.weight", {64, 400}}, matrix);
  source->read({"norm.weight", {64}}, norm);
  source->read({"m.weight", {64, 400}}, again);
  EXPECT_EQ(matrix, again);
  double square = 0;
  for (const float x : matrix) square += double{x} * double{x};
  EXPECT_NEAR(square / 64, 1, 0.03);  // 25,600 uniform values: standard error 0.6 %
  for (const float x : norm) EXPECT_NEAR(x, 1, 0.2);
  random_weights(8)->read({"m.weight", {64, 400}}, again);
  EXPECT_NE(matrix, again);
}

}  // namespace
}  // namespace kvstow
