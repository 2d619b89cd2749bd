// A run where the machine gives no threads: pthread_create() fails here when told to.
#include "bench/experiment/runner.h"

#include <dlfcn.h>
#include <gtest/gtest.h>
#include <pthread.h>

#include <cerrno>
#include <filesystem>
#include <fstream>

namespace {
int threads_left = -1;  // before creating fails; below 0: as many as are wanted
}

// In place of the C library's, which it calls.
extern "C" int pthread_create(pthread_t* thread, const pthread_attr_t* attributes,
                              void* (*body)(void*), void* argument) noexcept {
  if (threads_left == 0) return EAGAIN;
  if (threads_left > 0) --threads_left;
  static const auto create =
      reinterpret_cast<decltype(&pthread_create)>(::dlsym(RTLD_NEXT, "pthread_create"));
  return create(thread, attributes, body, argument);
}

namespace kvstow {
namespace {

TEST(Runner, DoesWithTheThreadsThatThereAre) {
  const std::string folder = testing::TempDir() + "runner_test";
  std::filesystem::remove_all(folder);
  const std::string file = testing::TempDir() + "runner_test.yaml";
  std::ofstream(file) << "name: x\ntitle: t\nmodel: opt-13b\nduration_s: 5\n"
                         "workload: {lengths: alpaca}\n"
                         "sweep: {system: [vllm, orca-max], rate_per_s: [1, 2, 3]}\n";
  const Store store(folder);
  threads_left = 1;
  const RunReport report = run_experiments({read_experiment(file)}, store, {.jobs = 6});
  EXPECT_EQ(threads_left, 0);
  threads_left = -1;
  EXPECT_EQ(report.points, 6U);
  EXPECT_EQ(report.reused, 0U);
}

}  // namespace
}  // namespace kvstow
