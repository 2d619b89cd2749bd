#include "core/config/yaml_reader.h"

#include <fmt/format.h>
#include <yaml-cpp/eventhandler.h>
#include <yaml-cpp/yaml.h>

#include <algorithm>
#include <charconv>
#include <cmath>
#include <fstream>
#include <iterator>
#include <limits>
#include <nlohmann/json.hpp>
#include <sstream>
#include <utility>

#include "core/text.h"

namespace kvstow {
namespace {

std::string label_of(const std::string& label) {
  return label.empty() ? "" : label + ": ";
}

int line_of(const YAML::Node& node) {
  return node.Mark().line + 1;
}

template <class Number>
std::optional<Number> parse_number(const std::string& text) {
  Number value{};
  const char* const end = text.data() + text.size();
  const auto [stop, error] = std::from_chars(text.data(), end, value);
  if (error != std::errc() || stop != end) return std::nullopt;
  return value;
}

// Rows are JSON, whose writer refuses any other text.
bool is_utf8(const std::string& text) {
  try {
    static_cast<void>(nlohmann::json(text).dump());
    return true;
  } catch (const nlohmann::json::type_error&) {
    return false;
  }
}

// Where a document begins, and whether it holds anything.
class Beginning final : public YAML::EventHandler {
 public:
  [[nodiscard]] int line() const { return line_; }
  [[nodiscard]] bool is_null() const { return null_; }

 private:
  void at(const YAML::Mark& mark, bool null = false) {
    if (line_ > 0) return;
    line_ = mark.line + 1;
    null_ = null;
  }
  void OnNull(const YAML::Mark& mark, YAML::anchor_t) override { at(mark, true); }
  void OnAlias(const YAML::Mark& mark, YAML::anchor_t) override { at(mark); }
  void OnScalar(const YAML::Mark& mark, const std::string&, YAML::anchor_t,
                const std::string&) override {
    at(mark);
  }
  void OnSequenceStart(const YAML::Mark& mark, const std::string&, YAML::anchor_t,
                       YAML::EmitterStyle::value) override {
    at(mark);
  }
  void OnMapStart(const YAML::Mark& mark, const std::string&, YAML::anchor_t,
                  YAML::EmitterStyle::value) override {
    at(mark);
  }
  void OnDocumentStart(const YAML::Mark&) override {}
  void OnDocumentEnd() override {}
  void OnSequenceEnd() override {}
  void OnMapEnd() override {}

  int line_ = 0;
  bool null_ = true;
};

// The line of what follows the first document; 0 for nothing. YAML::LoadAll() does not end where
// the parser stops before a token for good, as in " : \n,".
int line_of_more(const std::string& text) {
  std::istringstream in(text);
  YAML::Parser parser(in);
  Beginning first, second;
  if (!parser.HandleNextDocument(first) || !parser.HandleNextDocument(second)) return 0;
  return second.is_null() && !parser ? 0 : second.line();
}

}  // namespace

ConfigNode::ConfigNode(std::shared_ptr<const std::string> file, std::string label,
                       const YAML::Node& node, int line)
    : file_(std::move(file)),
      label_(std::move(label)),
      node_(std::make_shared<const YAML::Node>(node)),
      line_(line) {}

ConfigNode ConfigNode::load_file(const std::string& path) {
  std::ifstream in(path);
  const std::string text{std::istreambuf_iterator<char>(in), std::istreambuf_iterator<char>()};
  if (!in.is_open() || in.bad()) throw InputError(fmt::format("{}: cannot read this file", path));
  return parse(text, path);
}

ConfigNode ConfigNode::parse(const std::string& text, const std::string& name) {
  auto file = std::make_shared<const std::string>(name);
  try {
    const YAML::Node document = YAML::Load(text);
    if (document.IsNull()) throw InputError(fmt::format("{}:1: the file is empty", name));
    if (const int line = line_of_more(text); line > 0) {
      throw InputError(
          fmt::format("{}:{}: a second YAML document; one file holds one", name, line));
    }
    return ConfigNode(std::move(file), "", document, line_of(document));
  } catch (const YAML::Exception& error) {
    throw InputError(
        fmt::format("{}:{}: malformed YAML: {}", name, error.mark.line + 1, error.msg));
  }
}

std::string ConfigNode::where() const {
  return fmt::format("{}:{}", *file_, line_);
}

void ConfigNode::fail(std::string_view what) const {
  throw InputError(fmt::format("{}: {}{}", where(), label_of(label_), what));
}

void ConfigNode::fail_unknown(std::string_view kind, std::string_view name,
                              std::span<const std::string> known) const {
  const std::string nearest = nearest_name(name, known);
  fail(nearest.empty() ? fmt::format("unknown {} '{}'", kind, name)
                       : fmt::format("unknown {} '{}' (nearest: {})", kind, name, nearest));
}

bool ConfigNode::is_map() const {
  return node_->IsMap();
}
bool ConfigNode::is_list() const {
  return node_->IsSequence();
}

std::string ConfigNode::text() const {
  if (!node_->IsScalar()) {
    fail(node_->IsNull() ? "the value is missing" : "one value is wanted, not a list or mapping");
  }
  if (!is_utf8(node_->Scalar())) fail("the text is not UTF-8");
  return node_->Scalar();
}

bool ConfigNode::boolean() const {
  const std::string value = text();
  if (value != "true" && value != "false") fail(fmt::format("true or false, not '{}'", value));
  return value == "true";
}

double ConfigNode::number() const {
  const std::string value = text();
  const auto parsed = parse_number<double>(value);
  if (!parsed) fail(fmt::format("'{}' is not a number (units stand in the key)", value));
  if (!std::isfinite(*parsed)) fail(fmt::format("'{}' is not a finite number", value));
  return *parsed;
}

double ConfigNode::number_at_least(double least) const {
  const double value = number();
  if (value < least) fail(fmt::format("{} is too small; at least {}", value, least));
  return value;
}

double ConfigNode::number_above(double bound) const {
  const double value = number();
  if (value <= bound) fail(fmt::format("{} is too small; it must be above {}", value, bound));
  return value;
}

std::int64_t ConfigNode::integer() const {
  const std::string value = text();
  const auto parsed = parse_number<std::int64_t>(value);
  if (!parsed) fail(fmt::format("'{}' is not a whole number (units stand in the key)", value));
  return *parsed;
}

std::int64_t ConfigNode::integer_at_least(std::int64_t least) const {
  const std::int64_t value = integer();
  if (value < least) fail(fmt::format("{} is too small; at least {}", value, least));
  return value;
}

int ConfigNode::count_at_least(int least) const {
  const std::int64_t value = integer_at_least(least);
  constexpr int kMost = std::numeric_limits<int>::max();
  if (value > kMost) fail(fmt::format("{} is too large; at most {}", value, kMost));
  return static_cast<int>(value);
}

std::string ConfigNode::name(std::string_view kind, std::span<const std::string> known) const {
  std::string value = text();
  if (std::find(known.begin(), known.end(), value) == known.end()) fail_unknown(kind, value, known);
  return value;
}

std::size_t ConfigNode::choice_index(std::string_view kind,
                                     std::span<const std::string_view> names) const {
  const std::string value = text();
  const auto found = std::find(names.begin(), names.end(), value);
  if (found == names.end()) {
    fail_unknown(kind, value, std::vector<std::string>(names.begin(), names.end()));
  }
  return static_cast<std::size_t>(found - names.begin());
}

std::vector<ConfigNode> ConfigNode::items() const {
  if (!is_list()) fail("a list is wanted: [a, b, ...]");
  std::vector<ConfigNode> list;
  for (const YAML::Node& child : *node_) {
    list.push_back(ConfigNode(file_, label_, child, line_of(child)));
  }
  if (list.empty()) fail("the list is empty");
  return list;
}

std::vector<ConfigNode> ConfigNode::items_or_one() const {
  return is_list() ? items() : std::vector<ConfigNode>{*this};
}

ConfigMap::ConfigMap(const ConfigNode& node) : node_(node) {
  read_entries();
}

ConfigMap::ConfigMap(const ConfigNode& node, std::vector<std::string> known) : node_(node) {
  read_entries();
  for (const auto& [key, value] : entries_) {
    if (std::find(known.begin(), known.end(), key) != known.end()) continue;
    ConfigNode unknown = value;
    unknown.label_.clear();
    unknown.fail_unknown("key", key, known);
  }
}

void ConfigMap::read_entries() {
  if (!node_.is_map()) node_.fail("a mapping is wanted: lines of `key: value`");
  for (const auto& entry : *node_.node_) {
    const int line = line_of(entry.first);
    const ConfigNode key(node_.file_, "", entry.first, line);
    const std::string name = key.text();
    if (find(name)) key.fail(fmt::format("duplicate key '{}'", name));
    entries_.emplace_back(name, ConfigNode(node_.file_, name, entry.second, line));
  }
}

std::optional<ConfigNode> ConfigMap::find(std::string_view key) const {
  for (const auto& [name, value] : entries_) {
    if (name == key) return value;
  }
  return std::nullopt;
}

ConfigNode ConfigMap::at(std::string_view key) const {
  auto value = find(key);
  if (!value) node_.fail(fmt::format("missing key '{}'", key));
  return *value;
}

}  // namespace kvstow
