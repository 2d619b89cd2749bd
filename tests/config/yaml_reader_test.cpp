#include "core/config/yaml_reader.h"

#include <gtest/gtest.h>

#include <functional>

namespace kvstow {
namespace {

std::string error_of(const std::function<void()>& action) {
  try {
    action();
  } catch (const InputError& error) {
    return error.what();
  }
  return "no error";
}

ConfigNode node(const std::string& text) {
  return ConfigNode::parse(text, "x.yaml");
}

TEST(YamlReader, ReadsValuesWithTheirTypes) {
  const ConfigMap map(node("name: a\nrate_per_s: 2.5\ncount: 3\non: true\nlist: [1, 2]\n"),
                      {"name", "rate_per_s", "count", "on", "list"});
  EXPECT_EQ(map.at("name").text(), "a");
  EXPECT_EQ(map.at("rate_per_s").number(), 2.5);
  EXPECT_EQ(map.at("count").integer(), 3);
  EXPECT_TRUE(map.at("on").boolean());
  EXPECT_EQ(map.at("list").items().at(1).integer(), 2);
  EXPECT_EQ(map.at("count").items_or_one().size(), 1U);
  EXPECT_FALSE(map.find("other").has_value());
}

TEST(YamlReader, UnknownKeyNamesLineAndNearest) {
  EXPECT_EQ(error_of([] {
              ConfigMap(node("name: a\nrate: 2\n"), {"name", "rate_per_s"});
            }),
            "x.yaml:2: unknown key 'rate' (nearest: rate_per_s)");
}

TEST(YamlReader, DuplicateAndMissingKeys) {
  EXPECT_EQ(error_of([] {
              ConfigMap(node("a: 1\nb: 2\na: 3\n"), {"a", "b"});
            }),
            "x.yaml:3: duplicate key 'a'");
  EXPECT_EQ(error_of([] {
              (void)ConfigMap(node("a: 1\n"), {"a", "b"}).at("b");
            }),
            "x.yaml:1: missing key 'b'");
}

TEST(YamlReader, TextIsUtf8) {
  const auto text = [](const std::string& value) {
    return error_of([&] { (void)ConfigMap(node("a: \"" + value + "\"\n"), {"a"}).at("a").text(); });
  };
  for (const char* good :
       {"", "a~", "\u00e9\u07ff", "\u0800\ud7ff\uffff", "\U00010000\U0010ffff"}) {
    EXPECT_EQ(text(good), "no error");
  }
  for (const char* bad : {"Gr\xf6\xdf"
                          "e",                         // Latin-1
                          "\x80", "\xc3", "\xe2\x82",  // a lone continuation, missing ones
                          "\xc0\xaf", "\xe0\x9f\xbf",  // longer than they have to be
                          "\xed\xa0\x80", "\xf4\x90\x80\x80", "\xff"}) {
    EXPECT_EQ(text(bad), "x.yaml:1: a: the text is not UTF-8") << bad;
  }
}

TEST(YamlReader, WrongTypesAndRanges) {
  const auto value = [](const std::string& text) {
    return ConfigMap(node("\nrate_per_s: " + text + "\n"), {"rate_per_s"}).at("rate_per_s");
  };
  EXPECT_EQ(error_of([&] { (void)value("2/s").number(); }),
            "x.yaml:2: rate_per_s: '2/s' is not a number (units stand in the key)");
  EXPECT_EQ(error_of([&] { (void)value("nan").number(); }),
            "x.yaml:2: rate_per_s: 'nan' is not a finite number");
  EXPECT_EQ(error_of([&] { (void)value(".nan").number(); }),
            "x.yaml:2: rate_per_s: '.nan' is not a number (units stand in the key)");
  EXPECT_EQ(error_of([&] { (void)value("-1").number_above(0); }),
            "x.yaml:2: rate_per_s: -1 is too small; it must be above 0");
  EXPECT_EQ(error_of([&] { (void)value("1.5").integer(); }),
            "x.yaml:2: rate_per_s: '1.5' is not a whole number (units stand in the key)");
  EXPECT_EQ(error_of([&] { (void)value("[1]").number(); }),
            "x.yaml:2: rate_per_s: one value is wanted, not a list or mapping");
  EXPECT_EQ(error_of([&] { (void)value("").number(); }),
            "x.yaml:2: rate_per_s: the value is missing");
  EXPECT_EQ(error_of([&] { (void)value("yes").boolean(); }),
            "x.yaml:2: rate_per_s: true or false, not 'yes'");
  EXPECT_EQ(error_of([&] { (void)value("[]").items(); }),
            "x.yaml:2: rate_per_s: the list is empty");
}

TEST(YamlReader, NamesAndChoices) {
  const std::vector<std::string> known = {"vllm", "orca-max"};
  EXPECT_EQ(error_of([&] { (void)node("vlm").name("system", known); }),
            "x.yaml:1: unknown system 'vlm' (nearest: vllm)");
  enum class Mode { first, second };
  static constexpr std::string_view kNames[] = {"first", "second"};
  EXPECT_EQ(node("second").choice<Mode>("mode", kNames), Mode::second);
  EXPECT_EQ(error_of([&] { (void)node("secnd").choice<Mode>("mode", kNames); }),
            "x.yaml:1: unknown mode 'secnd' (nearest: second)");
}

TEST(YamlReader, UnreadableFiles) {
  EXPECT_EQ(error_of([] { (void)ConfigNode::load_file("/no/such.yaml"); }),
            "/no/such.yaml: cannot read this file");
  EXPECT_EQ(error_of([] { (void)node(""); }), "x.yaml:1: the file is empty");
  EXPECT_EQ(error_of([] { (void)node("a: 1\n---\nb: 2\n"); }),
            "x.yaml:3: a second YAML document; one file holds one");
  EXPECT_EQ(error_of([] { (void)node("a: 1\n---\n# nothing\n"); }), "no error");
  EXPECT_EQ(error_of([] { (void)node(" : \n,"); }),  // documents without end to yaml-cpp
            "x.yaml:2: a second YAML document; one file holds one");
  EXPECT_EQ(error_of([] { (void)node("a: [1, 2\nb: 3\n"); }).substr(0, 26),
            "x.yaml:2: malformed YAML: ");
}

}  // namespace
}  // namespace kvstow
