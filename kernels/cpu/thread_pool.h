// A small pool for kernels: one caller, tasks of equal standing, no allocation per call. Which
// thread runs a task is free; kernels write disjoint outputs, so results do not depend on it.
#pragma once

#include <atomic>
#include <cstdint>
#include <thread>
#include <type_traits>
#include <vector>

namespace kvstow::kernels::cpu {

class ThreadPool {
 public:
  // The caller counts as one; 0: as many as the machine has. Throws InputError where it refuses
  // one.
  explicit ThreadPool(int threads = 0);
  ~ThreadPool();
  ThreadPool(const ThreadPool&) = delete;
  ThreadPool& operator=(const ThreadPool&) = delete;

  [[nodiscard]] int size() const { return static_cast<int>(workers_.size()) + 1; }

  // Calls body(task) for every task in [0, tasks) and returns when all have returned. The body must
  // not throw and must not call run.
  template <class Body>
  void run(std::int64_t tasks, Body&& body) {
    if (tasks <= 1 || workers_.empty()) {
      for (std::int64_t task = 0; task < tasks; ++task) body(task);
      return;
    }
    using Plain = std::remove_reference_t<Body>;
    dispatch(
        tasks, [](void* context, std::int64_t task) { (*static_cast<Plain*>(context))(task); },
        const_cast<void*>(static_cast<const void*>(&body)));
  }

 private:
  using Call = void (*)(void*, std::int64_t);

  void dispatch(std::int64_t tasks, Call call, void* context);
  void take_tasks(std::uint64_t epoch);
  void work();
  void stop();

  // One word holds the epoch of a run (high 24 bits) and the tasks nobody has taken yet (low 40):
  // a claim that succeeds is thereby a claim in that very run, however late its thread woke up.
  std::atomic<std::uint64_t> ticket_{0};
  std::atomic<std::int64_t> unfinished_{0};
  std::atomic<bool> stop_{false};
  std::int64_t tasks_ = 0;  // these three are read only by the holder of a claim
  Call call_ = nullptr;
  void* context_ = nullptr;
  std::vector<std::thread> workers_;
};

}  // namespace kvstow::kernels::cpu
