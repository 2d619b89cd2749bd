#include "bench/experiment/results_folder.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/file.h>
#include <unistd.h>

#include <cerrno>
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
}

ResultsFolder::~ResultsFolder() {
  // rmdir() leaves what holds something and what is no folder any more.
  for (auto folder = made_.rbegin(); folder != made_.rend(); ++folder) ::rmdir(folder->c_str());
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
  if (::flock(held_, LOCK_EX | LOCK_NB) != 0 && errno == EWOULDBLOCK) {
    throw InputError(
        fmt::format("{}: another run is writing its results here", directory.string()));
  }
}

}  // namespace kvstow
