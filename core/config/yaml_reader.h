// A strict reader over yaml-cpp: nothing is ignored, and every complaint is one line
//   FILE:LINE: what is wrong (nearest: X)
// thrown as InputError.
//
// Keys carry their units (rate_per_s, pool_bytes), so a wrong unit is an unknown key and the
// nearest one says which unit is meant.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "core/check.h"

namespace YAML {
class Node;
}

namespace kvstow {

// One value of a YAML file, which knows where it stands. Cheap to copy; keeps the document alive.
class ConfigNode {
 public:
  // REQUIRES nothing of the file: a missing, empty or malformed one is an InputError.
  [[nodiscard]] static ConfigNode load_file(const std::string& path);
  // `name` stands for the file in messages.
  [[nodiscard]] static ConfigNode parse(const std::string& text, const std::string& name);

  [[noreturn]] void fail(std::string_view what) const;
  [[noreturn]] void fail_unknown(std::string_view kind, std::string_view name,
                                 std::span<const std::string> known) const;

  // "FILE:LINE", and the file alone.
  [[nodiscard]] std::string where() const;
  [[nodiscard]] const std::string& file() const { return *file_; }

  [[nodiscard]] bool is_map() const;
  [[nodiscard]] bool is_list() const;

  // Scalars. Each fails where the text is not of the type or not in the range; numbers are finite.
  [[nodiscard]] std::string text() const;
  [[nodiscard]] bool boolean() const;
  [[nodiscard]] double number() const;
  [[nodiscard]] double number_at_least(double least) const;
  [[nodiscard]] double number_above(double bound) const;
  [[nodiscard]] std::int64_t integer() const;
  [[nodiscard]] std::int64_t integer_at_least(std::int64_t least) const;
  // Of things or tokens: below 2^31, so that sums of a few stay far from an overflow.
  [[nodiscard]] int count_at_least(int least) const;
  // One of `known`; `kind` says what it names ("system", "model").
  [[nodiscard]] std::string name(std::string_view kind, std::span<const std::string> known) const;

  // One of `names`, which stand in the order of the enum's values.
  template <class Enum, std::size_t N>
  [[nodiscard]] Enum choice(std::string_view kind, const std::string_view (&names)[N]) const {
    return static_cast<Enum>(choice_index(kind, names));
  }

  // The elements of a list.
  [[nodiscard]] std::vector<ConfigNode> items() const;
  // The same, where one scalar may stand for a list of one.
  [[nodiscard]] std::vector<ConfigNode> items_or_one() const;

 private:
  friend class ConfigMap;
  ConfigNode(std::shared_ptr<const std::string> file, std::string label, const YAML::Node& node,
             int line);
  [[nodiscard]] std::size_t choice_index(std::string_view kind,
                                         std::span<const std::string_view> names) const;

  std::shared_ptr<const std::string> file_;
  std::string label_;  // the key whose value this is, for messages; empty at the root
  std::shared_ptr<const YAML::Node> node_;
  int line_;  // from 1; the value of a key counts as standing where the key does
};

// A mapping whose keys are all among `known`, each at most once; anything else fails when it is
// made.
class ConfigMap {
 public:
  ConfigMap(const ConfigNode& node, std::vector<std::string> known);
  // Any key, where keys are names of the user's.
  explicit ConfigMap(const ConfigNode& node);

  [[nodiscard]] const ConfigNode& node() const { return node_; }
  [[nodiscard]] const std::vector<std::pair<std::string, ConfigNode>>& entries() const& {
    return entries_;
  }
  void entries() && = delete;  // a loop over a temporary's entries would dangle
  [[nodiscard]] std::optional<ConfigNode> find(std::string_view key) const;
  [[nodiscard]] ConfigNode at(std::string_view key) const;  // fails where it is missing

 private:
  void read_entries();

  ConfigNode node_;
  std::vector<std::pair<std::string, ConfigNode>> entries_;
};

}  // namespace kvstow
