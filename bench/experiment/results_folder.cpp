#include "bench/experiment/results_folder.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <csignal>
#include <system_error>

#include "core/check.h"

namespace kvstow {

namespace fs = std::filesystem;

namespace {

// Before hours are computed.
void require_writable(const fs::path& folder) {
  if (::access(folder.c_str(), W_OK | X_OK) == 0) return;
  throw InputError(fmt::format("{}: cannot write here", folder.string()));
}

// rmdir() leaves what holds something and what is no folder any more.
void remove_empty(const std::vector<fs::path>& made) {
  for (auto folder = made.rbegin(); folder != made.rend(); ++folder) ::rmdir(folder->c_str());
}

bool is_at(int descriptor, const fs::path& path) {
  struct stat held = {}, there = {};
  return ::fstat(descriptor, &held) == 0 && ::stat(path.c_str(), &there) == 0 &&
         held.st_dev == there.st_dev && held.st_ino == there.st_ino;
}

// Of the run that a signal may end.
std::atomic<const std::vector<fs::path>*> made_by_run = nullptr;

// What the destructor does, and then what the signal does by itself.
void stop(int signal) {
  if (const auto* made = made_by_run.load()) remove_empty(*made);
  ::raise(signal);  // blocked until this returns, and reset: SA_RESETHAND
}

void on_signals() {
  for (const int signal : {SIGINT, SIGTERM, SIGHUP}) {
    struct sigaction action = {};
    ::sigaction(signal, nullptr, &action);
    if (action.sa_handler != SIG_DFL) continue;  // ignored, as nohup has it
    action.sa_handler = stop;
    action.sa_flags = SA_RESETHAND;
    ::sigaction(signal, &action, nullptr);
  }
}

}  // namespace

// Delegates, so that the destructor runs where the body throws.
ResultsFolder::ResultsFolder(const fs::path& directory, std::initializer_list<const char*> folders)
    : ResultsFolder() {
  make(directory);
  lock(directory);
  require_writable(directory);
  for (const char* folder : folders) {
    make(directory / folder);
    require_writable(directory / folder);
  }
  made_by_run = &made_;
  on_signals();
}

ResultsFolder::~ResultsFolder() {
  made_by_run = nullptr;
  remove_empty(made_);
  if (held_ >= 0) ::close(held_);
}

void ResultsFolder::make(const fs::path& folder) {
  std::error_code error;
  if (folder.empty() || fs::is_directory(folder, error)) return;
  make(folder.parent_path());
  if (fs::create_directory(folder, error)) made_.push_back(folder);
  if (error) {
    throw InputError(
        fmt::format("{}: cannot create this folder: {}", folder.string(), error.message()));
  }
}

// The lock ends with the process, however that ends. A file system that has no locks keeps nobody
// out.
void ResultsFolder::lock(const fs::path& directory) {
  held_ = ::open(directory.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (held_ < 0) {
    throw InputError(fmt::format("{}: cannot open this folder: {}", directory.string(),
                                 std::generic_category().message(errno)));
  }
  if (::flock(held_, LOCK_EX | LOCK_NB) == 0 ? is_at(held_, directory) : errno != EWOULDBLOCK) {
    return;
  }
  // Another run came between: it has what was made here, or has removed it. Nothing is removed but
  // under the lock.
  made_.clear();
  throw InputError(fmt::format("{}: another run is writing its results here", directory.string()));
}

}  // namespace kvstow
