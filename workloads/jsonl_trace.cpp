// Mooncake traces, one JSON object a line (github.com/kvcache-ai/Mooncake, FAST'25):
//   {"timestamp": 27482, "input_length": 6955, "output_length": 52, "hash_ids": [46, 47, 2353]}
// Times in ms. hash_ids is optional: one id per 512-token block of the prompt, equal ids meaning
// equal blocks after equal prefixes. Memory is constant in the length of the file.
#include <fmt/format.h>

#include <cmath>
#include <fstream>
#include <nlohmann/json.hpp>

#include "core/check.h"
#include "workloads/trace_file.h"

namespace kvstow {
namespace {

using nlohmann::json;

class JsonlTrace final : public TraceReader {
 public:
  explicit JsonlTrace(const std::string& path) : path_(path), file_(path) {
    if (!file_) throw InputError(path_ + ": cannot be read");
  }

  bool next(TraceRow& row) override {
    do {
      if (!std::getline(file_, line_)) return false;
      ++line_number_;
    } while (line_.find_first_not_of(" \t\r") == std::string::npos);
    const json object = json::parse(line_, nullptr, /*allow_exceptions=*/false);
    if (object.is_discarded()) fail("is not a complete JSON object");
    if (!object.is_object()) fail("is not a JSON object");
    row.arrival = milliseconds(object) * 1e-3;
    row.prompt = tokens(object, "input_length");
    row.output = tokens(object, "output_length");
    row.session = 0;
    hash_ids(object, row.block_hashes);
    return true;
  }

  void rewind() override {
    file_.clear();
    file_.seekg(0);
    line_number_ = 0;
  }

  std::string where() const override { return fmt::format("{}:{}", path_, line_number_); }

 private:
  [[noreturn]] void fail(const std::string& what) const { throw InputError(where() + ": " + what); }

  [[nodiscard]] const json& member(const json& object, const char* key) const {
    const auto found = object.find(key);
    if (found == object.end()) {
      fail(fmt::format("has no key '{}' (timestamp, input_length, output_length, hash_ids)", key));
    }
    return *found;
  }

  [[nodiscard]] double milliseconds(const json& object) const {
    const json& value = member(object, "timestamp");
    if (!value.is_number()) fail("timestamp is not a time in milliseconds");
    const auto time = value.get<double>();
    if (!std::isfinite(time) || time < 0) fail("timestamp is negative or not finite");
    return time;
  }

  [[nodiscard]] Tokens tokens(const json& object, const char* key) const {
    const json& value = member(object, key);
    if (!value.is_number_integer()) fail(fmt::format("{} is not a whole number of tokens", key));
    if (value.get<double>() > kMostTokens)
      fail(fmt::format("{} {} is too large", key, value.dump()));
    const auto count = value.get<std::int64_t>();
    if (count < 1) fail(fmt::format("{} {} is less than one token", key, count));
    return Tokens(count);
  }

  void hash_ids(const json& object, std::vector<std::uint64_t>& ids) const {
    ids.clear();
    const auto found = object.find("hash_ids");
    if (found == object.end()) return;
    if (!found->is_array()) fail("hash_ids is not a list");
    for (const json& id : *found) {
      if (!id.is_number_unsigned()) fail("hash_ids holds something that is not a whole number");
      ids.push_back(id.get<std::uint64_t>());
    }
  }

  std::string path_;
  std::ifstream file_;
  std::string line_;
  std::int64_t line_number_ = 0;
};

}  // namespace

std::unique_ptr<TraceReader> open_jsonl_trace(const std::string& path) {
  return std::make_unique<JsonlTrace>(path);
}

}  // namespace kvstow
