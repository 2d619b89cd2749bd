// ShareGPT as vLLM's benchmarks take it:
//   [{"conversations": [{"from": "human", "value": "..."}, {"from": "gpt", "value": "..."}]}, ...]
// A conversation gives one pair: its first human turn and the first reply after it (empty texts do
// not count), as in the PagedAttention paper. One without such a pair is passed over.
//
// There is no tokenizer here. A text of n characters (UTF-8 code points) counts as
// ceil(n / chars_per_token) tokens.
//
// The file is parsed as a stream (SAX); only the lengths are kept, 16 bytes a conversation.
#include <fmt/format.h>

#include <cmath>
#include <fstream>
#include <nlohmann/json.hpp>

#include "core/check.h"
#include "workloads/trace_file.h"

namespace kvstow {
namespace {

using nlohmann::json;

struct Pair {
  Tokens prompt, output;
};

class ShareGptParser final : public nlohmann::json_sax<json> {
 public:
  ShareGptParser(const std::string& path, double chars_per_token)
      : path_(path), chars_per_token_(chars_per_token) {}

  [[nodiscard]] std::vector<Pair> take_pairs() { return std::move(pairs_); }

  bool start_array(std::size_t) override {
    if (open_.empty()) {
      open_.push_back(Place::records);
    } else {
      const bool turns = open_.back() == Place::record && key_ == "conversations";
      open_.push_back(turns ? Place::turns : Place::other);
    }
    return true;
  }
  bool end_array() override { return open_.pop_back(), true; }

  bool start_object(std::size_t) override {
    if (open_.empty()) fail_top();
    if (open_.back() == Place::records) {
      ++record_;
      prompt_chars_ = reply_chars_ = 0;
      open_.push_back(Place::record);
    } else if (open_.back() == Place::turns) {
      from_.clear();
      chars_ = 0;
      open_.push_back(Place::turn);
    } else {
      open_.push_back(Place::other);
    }
    return true;
  }
  bool end_object() override {
    if (open_.back() == Place::turn) end_turn();
    if (open_.back() == Place::record) end_record();
    open_.pop_back();
    return true;
  }

  bool key(string_t& name) override {
    if (open_.back() == Place::record || open_.back() == Place::turn) key_ = name;
    return true;
  }
  bool string(string_t& text) override {
    if (open_.empty()) fail_top();
    if (open_.back() == Place::turn) {
      if (key_ == "from") from_ = text;
      if (key_ == "value") chars_ = count_characters(text);
    }
    return true;
  }

  bool null() override { return scalar(); }
  bool boolean(bool) override { return scalar(); }
  bool number_integer(number_integer_t) override { return scalar(); }
  bool number_unsigned(number_unsigned_t) override { return scalar(); }
  bool number_float(number_float_t, const string_t&) override { return scalar(); }
  bool binary(binary_t&) override { return scalar(); }

  bool parse_error(std::size_t, const std::string&, const json::exception& error) override {
    // nlohmann writes "[json...] parse error at line 3, column 7: ...".
    const std::string_view text = error.what();
    constexpr std::string_view kLine = "at line ";
    const auto at = text.find(kLine);
    const std::string line =
        at == std::string_view::npos
            ? ""
            : fmt::format(":{}",
                          text.substr(at + kLine.size(), text.find(',', at) - at - kLine.size()));
    throw InputError(fmt::format("{}{}: not valid JSON after {} conversations (is it cut short?)",
                                 path_, line, record_));
  }

 private:
  enum class Place : std::uint8_t { records, record, turns, turn, other };

  [[noreturn]] void fail_top() const {
    throw InputError(path_ + ": is not a list of conversations (ShareGPT JSON starts with '[')");
  }

  bool scalar() const {
    if (open_.empty()) fail_top();
    if (open_.back() == Place::turn && (key_ == "from" || key_ == "value")) {
      throw InputError(
          fmt::format("{}: conversation {}: '{}' is not a text", path_, record_, key_));
    }
    return true;
  }

  static std::int64_t count_characters(std::string_view text) {
    std::int64_t characters = 0;  // bytes that do not continue a code point
    for (const char c : text) characters += (static_cast<unsigned char>(c) & 0xC0) != 0x80;
    return characters;
  }

  void end_turn() {
    const bool human = from_ == "human" || from_ == "user";
    if (human && prompt_chars_ == 0) {
      prompt_chars_ = chars_;
    } else if (!human && from_ != "system" && prompt_chars_ > 0 && reply_chars_ == 0) {
      reply_chars_ = chars_;
    }
  }

  void end_record() {
    if (prompt_chars_ > 0 && reply_chars_ > 0) {
      pairs_.push_back({tokens(prompt_chars_), tokens(reply_chars_)});
    }
  }

  [[nodiscard]] Tokens tokens(std::int64_t characters) const {
    return Tokens(std::int64_t(std::ceil(static_cast<double>(characters) / chars_per_token_)));
  }

  std::string path_;
  double chars_per_token_;
  std::vector<Pair> pairs_;
  std::vector<Place> open_;  // what encloses the reading position
  std::string key_;          // last key of the enclosing record or turn
  std::string from_;
  std::int64_t chars_ = 0;
  std::int64_t prompt_chars_ = 0;
  std::int64_t reply_chars_ = 0;
  std::int64_t record_ = 0;  // counted from 1
};

class ShareGptTrace final : public TraceReader {
 public:
  ShareGptTrace(const std::string& path, double chars_per_token) : path_(path) {
    std::ifstream file(path);
    if (!file) throw InputError(path + ": cannot be read");
    if (file.peek() == std::ifstream::traits_type::eof()) throw InputError(path + ": is empty");
    ShareGptParser parser(path, chars_per_token);
    json::sax_parse(file, &parser);
    pairs_ = parser.take_pairs();
    if (pairs_.empty()) {
      throw InputError(path + ": no conversation has a human turn and a reply");
    }
  }

  bool next(TraceRow& row) override {
    if (next_ == pairs_.size()) return false;
    row = {};
    row.prompt = pairs_[next_].prompt;
    row.output = pairs_[next_].output;
    ++next_;
    return true;
  }
  void rewind() override { next_ = 0; }
  std::string where() const override { return fmt::format("{}: pair {}", path_, next_); }

 private:
  std::string path_;
  std::vector<Pair> pairs_;
  std::size_t next_ = 0;
};

}  // namespace

std::unique_ptr<TraceReader> open_sharegpt_json(const std::string& path, double chars_per_token) {
  return std::make_unique<ShareGptTrace>(path, chars_per_token);
}

}  // namespace kvstow
