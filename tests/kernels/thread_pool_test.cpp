#include "kernels/cpu/thread_pool.h"

#include <gtest/gtest.h>

#include <atomic>

namespace kvstow::kernels::cpu {
namespace {

TEST(ThreadPool, RunsEveryTaskOnceAndReturnsAfterTheLast) {
  for (const int size : {1, 2, 4}) {
    ThreadPool threads(size);
    EXPECT_EQ(threads.size(), size);
    for (int run = 0; run < 300; ++run) {
      const int tasks = run % 17;
      std::vector<int> count(static_cast<std::size_t>(tasks), 0);  // plain: TSan sees a lost wait
      threads.run(tasks, [&](std::int64_t task) { ++count[static_cast<std::size_t>(task)]; });
      EXPECT_EQ(count, std::vector<int>(static_cast<std::size_t>(tasks), 1));
    }
  }
}

TEST(ThreadPool, WakesThreadsThatHaveGoneToSleep) {
  ThreadPool threads(3);
  std::atomic<int> total{0};
  for (int run = 0; run < 3; ++run) {
    std::this_thread::sleep_for(std::chrono::milliseconds(5));
    threads.run(10, [&](std::int64_t) { ++total; });
  }
  EXPECT_EQ(total, 30);
}

// A thread that had looked whether to stop just before it was told to waited for ever: once in some
// thousand pools.
TEST(ThreadPool, EndsHoweverEarlyItIsToldTo) {
  std::atomic<int> total{0};
  for (int i = 0; i < 5000; ++i) {
    ThreadPool threads(3);
    if (i % 2 == 1) threads.run(3, [&](std::int64_t) { ++total; });
  }
  EXPECT_EQ(total, 3 * 2500);
}

}  // namespace
}  // namespace kvstow::kernels::cpu
