// CSV traces. The header says what the columns are:
//   arrival_s | TIMESTAMP           seconds, or Azure's "2023-11-16 18:15:46.6805900"
//   prompt_tokens | ContextTokens   output_tokens | GeneratedTokens
//   hash_ids (optional, separated by spaces)   session_id (optional, counted from 0)
// Other columns are ignored. Memory is constant in the length of the file.
#include <fmt/format.h>

#include <array>
#include <charconv>
#include <chrono>
#include <cmath>
#include <fstream>
#include <optional>

#include "core/check.h"
#include "workloads/trace_file.h"

namespace kvstow {
namespace {

enum Role : std::int8_t { arrival_s, timestamp, prompt, output, hashes, session, ignored };
constexpr std::size_t kRoles = ignored;

struct ColumnName {
  std::string_view name;
  Role role;
};
constexpr ColumnName kColumnNames[] = {
    {"arrival_s", arrival_s},  {"TIMESTAMP", timestamp},  {"prompt_tokens", prompt},
    {"ContextTokens", prompt}, {"output_tokens", output}, {"GeneratedTokens", output},
    {"hash_ids", hashes},      {"session_id", session},
};

std::string_view trimmed(std::string_view text) {
  const auto first = text.find_first_not_of(" \t\r");
  if (first == std::string_view::npos) return {};
  return text.substr(first, text.find_last_not_of(" \t\r") - first + 1);
}

// The whole of `text` as a number, or none.
template <class Number>
std::optional<Number> parse(std::string_view text) {
  Number value{};
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size()) return std::nullopt;
  return value;
}

// "2023-11-16 18:15:46.6805900", with 'T' for the blank, a zone (Z, +00:00) or no fraction at will:
// 100 ns ticks since 1970, exact, so that differences of two times keep their digits.
std::optional<std::int64_t> parse_timestamp(std::string_view text) {
  constexpr std::string_view kShape = "dddd-dd-dd?dd:dd:dd";
  if (text.size() < kShape.size()) return std::nullopt;
  for (std::size_t i = 0; i < kShape.size(); ++i) {
    const bool digit = text[i] >= '0' && text[i] <= '9';
    const bool fits = kShape[i] == 'd'   ? digit
                      : kShape[i] == '?' ? text[i] == ' ' || text[i] == 'T'
                                         : text[i] == kShape[i];
    if (!fits) return std::nullopt;
  }
  const auto number = [&](std::size_t at, std::size_t digits) {
    return *parse<int>(text.substr(at, digits));
  };
  const std::chrono::year_month_day date(std::chrono::year(number(0, 4)),
                                         std::chrono::month(unsigned(number(5, 2))),
                                         std::chrono::day(unsigned(number(8, 2))));
  const int hour = number(11, 2), minute = number(14, 2), second = number(17, 2);
  if (!date.ok() || hour > 23 || minute > 59 || second > 60) return std::nullopt;

  constexpr std::int64_t kTicksPerSecond = 10'000'000;
  std::int64_t seconds =
      std::chrono::sys_days(date).time_since_epoch().count() * std::int64_t{86400} + hour * 3600 +
      minute * 60 + second;
  std::int64_t ticks = 0;
  text.remove_prefix(kShape.size());
  if (text.starts_with('.')) {
    text.remove_prefix(1);
    std::int64_t tick = kTicksPerSecond / 10;
    std::size_t digits = 0;
    for (; digits < text.size() && text[digits] >= '0' && text[digits] <= '9'; ++digits) {
      ticks += (text[digits] - '0') * tick;
      tick /= 10;
    }
    if (digits == 0) return std::nullopt;
    text.remove_prefix(digits);
  }
  if (text.size() == 6 && (text[0] == '+' || text[0] == '-') && text[3] == ':') {
    const auto hours = parse<int>(text.substr(1, 2)), minutes = parse<int>(text.substr(4, 2));
    if (!hours || !minutes) return std::nullopt;
    seconds -= (text[0] == '+' ? 1 : -1) * (*hours * 3600 + *minutes * 60);
  } else if (!text.empty() && text != "Z") {
    return std::nullopt;
  }
  return seconds * kTicksPerSecond + ticks;
}

class CsvTrace final : public TraceReader {
 public:
  CsvTrace(const std::string& path, TraceNeeds needs) : path_(path), needs_(needs) {
    file_.open(path_);
    if (!file_) throw InputError(path_ + ": cannot be read");
    read_header();
  }

  bool next(TraceRow& row) override {
    do {
      if (!read_line()) return false;
    } while (trimmed(line_).empty());
    split();
    row.block_hashes.clear();
    row.session = 0;
    if (needs_.arrivals) row.arrival = parse_arrival();
    if (needs_.lengths) {
      row.prompt = parse_tokens(prompt);
      row.output = parse_tokens(output);
    }
    if (has_[hashes]) parse_hashes(row);
    if (has_[session]) row.session = parse_session();
    return true;
  }

  void rewind() override {
    file_.clear();
    file_.seekg(0);
    line_number_ = 0;
    read_line();
  }

  std::string where() const override { return fmt::format("{}:{}", path_, line_number_); }

 private:
  bool read_line() {
    if (!std::getline(file_, line_)) return false;
    ++line_number_;
    return true;
  }

  [[noreturn]] void fail(const std::string& what) const { throw InputError(where() + ": " + what); }

  void read_header() {
    if (!read_line()) throw InputError(path_ + ": is empty");
    header_ = line_;
    std::string_view rest = header_;
    if (rest.starts_with("\xEF\xBB\xBF")) rest.remove_prefix(3);  // UTF-8 byte order mark
    for (;;) {
      const auto comma = rest.find(',');
      add_column(trimmed(rest.substr(0, comma)));
      if (comma == std::string_view::npos) break;
      rest.remove_prefix(comma + 1);
    }
    if (needs_.arrivals && !has_[arrival_s] && !has_[timestamp]) need("arrival_s (or TIMESTAMP)");
    if (needs_.lengths && !has_[prompt]) need("prompt_tokens (or ContextTokens)");
    if (needs_.lengths && !has_[output]) need("output_tokens (or GeneratedTokens)");
  }

  void add_column(std::string_view name) {
    Role role = ignored;
    for (const ColumnName& known : kColumnNames) {
      if (known.name == name) role = known.role;
    }
    if (role != ignored && has_[role]) fail(fmt::format("two columns for '{}'", name));
    if (role != ignored) {
      has_[role] = true;
      names_[role] = name;
    }
    columns_.push_back(role);
  }

  [[noreturn]] void need(std::string_view column) const {
    fail(fmt::format("no column {}; the header is '{}'", column, trimmed(header_)));
  }

  // Fills values_ with the fields of line_, by role.
  void split() {
    std::string_view rest = line_;
    std::size_t column = 0;
    for (;;) {
      const auto comma = rest.find(',');
      if (column < columns_.size() && columns_[column] != ignored) {
        values_[columns_[column]] = trimmed(rest.substr(0, comma));
      }
      ++column;
      if (comma == std::string_view::npos) break;
      rest.remove_prefix(comma + 1);
    }
    if (column != columns_.size()) {
      fail(fmt::format("{} column{}, but the header has {}", column, column == 1 ? "" : "s",
                       columns_.size()));
    }
  }

  [[nodiscard]] Seconds parse_arrival() {
    if (has_[arrival_s]) {
      const auto seconds = parse<double>(values_[arrival_s]);
      if (!seconds || !std::isfinite(*seconds)) fail_value(arrival_s, "is not a time in seconds");
      if (*seconds < 0) fail_value(arrival_s, "is negative");
      return *seconds;
    }
    const auto ticks = parse_timestamp(values_[timestamp]);
    if (!ticks) fail_value(timestamp, "is not a time like 2023-11-16 18:15:46.6805900");
    if (!first_tick_) first_tick_ = ticks;
    return static_cast<double>(*ticks - *first_tick_) * 1e-7;
  }

  [[nodiscard]] Tokens parse_tokens(Role role) const {
    const auto tokens = parse<std::int64_t>(values_[role]);
    if (!tokens) fail_value(role, "is not a whole number of tokens");
    if (*tokens < 1) fail_value(role, "is less than one token");
    if (*tokens > kMostTokens) fail_value(role, "is too large");
    return Tokens(*tokens);
  }

  [[nodiscard]] std::uint32_t parse_session() const {
    const auto id = parse<std::uint32_t>(values_[session]);
    if (!id || *id == UINT32_MAX) fail_value(session, "is not a whole number from 0");
    return *id + 1;  // 0 means none
  }

  void parse_hashes(TraceRow& row) const {
    std::string_view rest = values_[hashes];
    while (!rest.empty()) {
      const auto blank = rest.find(' ');
      const auto id = parse<std::uint64_t>(rest.substr(0, blank));
      if (!id) fail_value(hashes, "is not a list of whole numbers separated by single blanks");
      row.block_hashes.push_back(*id);
      rest.remove_prefix(blank == std::string_view::npos ? rest.size() : blank + 1);
    }
  }

  [[noreturn]] void fail_value(Role role, std::string_view what) const {
    constexpr std::size_t kShown = 40;
    fail(fmt::format("{} '{}' {}", names_[role], values_[role].substr(0, kShown), what));
  }

  std::string path_;
  TraceNeeds needs_;
  std::ifstream file_;
  std::string header_;
  std::string line_;
  std::int64_t line_number_ = 0;
  std::vector<Role> columns_;
  std::array<bool, kRoles> has_{};
  std::array<std::string, kRoles> names_;
  std::array<std::string_view, kRoles> values_;  // into line_
  std::optional<std::int64_t> first_tick_;
};

}  // namespace

std::unique_ptr<TraceReader> open_csv_trace(const std::string& path, TraceNeeds needs) {
  return std::make_unique<CsvTrace>(path, needs);
}

}  // namespace kvstow
