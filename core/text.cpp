#include "core/text.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

namespace kvstow {
namespace {

// Levenshtein distance, one row at a time.
std::size_t edit_distance(std::string_view a, std::string_view b) {
  std::vector<std::size_t> row(b.size() + 1);
  for (std::size_t j = 0; j <= b.size(); ++j) row[j] = j;
  for (std::size_t i = 1; i <= a.size(); ++i) {
    std::size_t diagonal = row[0];
    row[0] = i;
    for (std::size_t j = 1; j <= b.size(); ++j) {
      const std::size_t replace = diagonal + (a[i - 1] == b[j - 1] ? 0 : 1);
      diagonal = row[j];
      row[j] = std::min({replace, row[j] + 1, row[j - 1] + 1});
    }
  }
  return row.back();
}

std::vector<std::string_view> words(std::string_view name) {
  std::vector<std::string_view> parts;
  while (!name.empty()) {
    const std::size_t end = name.find_first_of("_-./ ");
    parts.push_back(name.substr(0, end));
    name = end == std::string_view::npos ? std::string_view() : name.substr(end + 1);
  }
  return parts;
}

double unlikeness(std::string_view name, std::string_view candidate) {
  const auto longest =
      static_cast<double>(std::max({name.size(), candidate.size(), std::size_t{1}}));
  const auto mine = words(name);
  const auto theirs = words(candidate);
  std::size_t shared = 0;
  while (shared < std::min(mine.size(), theirs.size()) && mine[shared] == theirs[shared]) ++shared;
  const auto fewest =
      static_cast<double>(std::max(std::min(mine.size(), theirs.size()), std::size_t{1}));
  return static_cast<double>(edit_distance(name, candidate)) / longest -
         0.5 * static_cast<double>(shared) / fewest;
}

}  // namespace

std::string nearest_name(std::string_view name, std::span<const std::string> candidates) {
  std::string best;
  double best_score = std::numeric_limits<double>::infinity();
  for (const std::string& candidate : candidates) {
    const double score = unlikeness(name, candidate);
    if (score < best_score) {
      best_score = score;
      best = candidate;
    }
  }
  return best;
}

std::string format_count(std::int64_t count) {
  const std::string digits = std::to_string(count);
  std::string out;
  for (std::size_t i = 0; i < digits.size(); ++i) {
    const bool after_digit = i > 0 && digits[i - 1] != '-';
    if (after_digit && (digits.size() - i) % 3 == 0) out += ',';
    out += digits[i];
  }
  return out;
}

std::string format_bytes(std::int64_t bytes) {
  constexpr double kMebi = 1 << 20;
  const auto size = static_cast<double>(bytes);
  if (std::abs(size) < kMebi) return format_count(bytes) + " B";
  const char* const units[] = {"MiB", "GiB", "TiB"};
  double scaled = size / kMebi;
  std::size_t unit = 0;
  while (std::abs(scaled) >= 1024 && unit < 2) {
    scaled /= 1024;
    ++unit;
  }
  return fmt::format("{:.4g} {}", scaled, units[unit]);
}

std::string format_seconds(double seconds) {
  if (seconds < 1) return fmt::format("{:.0f} ms", seconds * 1e3);
  if (seconds < 60) return fmt::format("{:.1f} s", seconds);
  const auto whole = static_cast<std::int64_t>(std::llround(seconds));
  if (whole < 3600) return fmt::format("{} min {:02} s", whole / 60, whole % 60);
  return fmt::format("{} h {:02} min", whole / 3600, whole / 60 % 60);
}

}  // namespace kvstow
