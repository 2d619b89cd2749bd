#include "bench/kvstow/progress.h"

#include <fmt/format.h>
#include <unistd.h>

#include <cstdio>

#include "core/text.h"

namespace kvstow {
namespace {

constexpr double kBarEvery_s = 0.1;
constexpr double kLineEvery_s = 5;
constexpr std::size_t kBarWidth = 30;

}  // namespace

ProgressPrinter::ProgressPrinter() : terminal_(::isatty(STDERR_FILENO) == 1) {}

void ProgressPrinter::show(const Progress& progress) {
  const double interval = terminal_ ? kBarEvery_s : kLineEvery_s;
  if (progress.elapsed_s - last_shown_s_ < interval) return;
  last_shown_s_ = progress.elapsed_s;
  const double rate = static_cast<double>(progress.done) / progress.elapsed_s;
  std::string line =
      fmt::format("{}/{} points  {:.1f}/s  {} left", progress.done, progress.total, rate,
                  format_seconds(static_cast<double>(progress.total - progress.done) / rate));
  if (terminal_) {
    const std::size_t filled = kBarWidth * progress.done / progress.total;
    line = fmt::format("\r\033[K[{:=<{}}{:>{}}] {}", "", filled, "", kBarWidth - filled, line);
  } else {
    line += '\n';
  }
  std::fputs(line.c_str(), stderr);  // which never throws: no run ends over its progress
  std::fflush(stderr);
}

void ProgressPrinter::finish() {
  if (terminal_) std::fputs("\r\033[K", stderr);
}

}  // namespace kvstow
