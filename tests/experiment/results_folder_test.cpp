// Two runs that begin at once: what the other one does between a run's opening and locking of its
// folder is done in flock() here.
#include "bench/experiment/results_folder.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <sys/file.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cstdlib>
#include <functional>
#include <string>

#include "core/check.h"

namespace fs = std::filesystem;

namespace {
std::function<void()> before_lock;
}

// In place of the C library's.
extern "C" int flock(int descriptor, int operation) noexcept {
  if (before_lock) std::exchange(before_lock, nullptr)();
  return static_cast<int>(::syscall(SYS_flock, descriptor, operation));
}

namespace kvstow {
namespace {

class ResultsFolderTest : public testing::Test {
 protected:
  ResultsFolderTest() {
    std::string name = (fs::temp_directory_path() / "kvstow-XXXXXX").string();
    scratch_ = ::mkdtemp(name.data());
  }
  ~ResultsFolderTest() override { fs::remove_all(scratch_); }

  void expect_refused() {
    try {
      const ResultsFolder folder(out(), {"rows"});
      ADD_FAILURE() << "two runs in one folder";
    } catch (const InputError& error) {
      EXPECT_EQ(error.what(), out().string() + ": another run is writing its results here");
    }
    EXPECT_EQ(before_lock, nullptr);
  }

  [[nodiscard]] fs::path out() const { return scratch_ / "new" / "out"; }

  fs::path scratch_;
};

TEST_F(ResultsFolderTest, LeavesWhatItMadeToTheRunThatWasFaster) {
  int other = -1;
  before_lock = [&] {
    other = ::open(out().c_str(), O_RDONLY);
    ASSERT_EQ(::flock(other, LOCK_EX | LOCK_NB), 0);
  };
  expect_refused();
  EXPECT_TRUE(fs::is_directory(out()));
  ::close(other);
}

TEST_F(ResultsFolderTest, ALockOnAFolderThatIsGoneIsNone) {
  before_lock = [&] { fs::remove(out()); };
  expect_refused();
  before_lock = [&] {
    fs::rename(out(), scratch_ / "old");  // whose inode is not free for the next
    fs::create_directory(out());
  };
  expect_refused();
  EXPECT_TRUE(fs::is_directory(out()));
}

TEST_F(ResultsFolderTest, RemovesWhatNothingWasWrittenInto) {
  { const ResultsFolder folder(out(), {"rows", "serve"}); }
  EXPECT_FALSE(fs::exists(scratch_ / "new"));
}

}  // namespace
}  // namespace kvstow
