#include "kernels/cpu/thread_pool.h"

#include <algorithm>
#include <string>
#include <system_error>

#include "core/check.h"

namespace kvstow::kernels::cpu {
namespace {

constexpr int kEpochShift = 40;
constexpr std::uint64_t kRemainingMask = (std::uint64_t{1} << kEpochShift) - 1;
// Kernels of one step follow each other within microseconds; sleeping costs more than that.
constexpr int kSpins = 4000;

void pause_briefly() {
#if defined(__x86_64__) || defined(__i386__)
  __builtin_ia32_pause();
#else
  std::this_thread::yield();
#endif
}

// Returns a value other than `old`.
template <class T>
T await_change(const std::atomic<T>& word, T old) {
  for (int i = 0; i < kSpins; ++i) {
    if (const T now = word.load(std::memory_order_acquire); now != old) return now;
    pause_briefly();
  }
  word.wait(old, std::memory_order_acquire);
  return word.load(std::memory_order_acquire);
}

}  // namespace

ThreadPool::ThreadPool(int threads) {
  if (threads <= 0) threads = static_cast<int>(std::max(1u, std::thread::hardware_concurrency()));
  try {
    for (int i = 1; i < threads; ++i) workers_.emplace_back([this] { work(); });
  } catch (const std::system_error& error) {
    stop();
    throw InputError("no more than " + std::to_string(size()) + " of " + std::to_string(threads) +
                     " threads: " + error.code().message());
  }
}

ThreadPool::~ThreadPool() {
  stop();
}

void ThreadPool::stop() {
  stop_.store(true);
  const std::uint64_t epoch = (ticket_.load() >> kEpochShift) + 1;
  ticket_.store(epoch << kEpochShift);
  ticket_.notify_all();
  for (std::thread& worker : workers_) worker.join();
}

void ThreadPool::dispatch(std::int64_t tasks, Call call, void* context) {
  tasks_ = tasks;
  call_ = call;
  context_ = context;
  unfinished_.store(tasks, std::memory_order_relaxed);
  const std::uint64_t epoch = ((ticket_.load(std::memory_order_relaxed) >> kEpochShift) + 1) &
                              (~std::uint64_t{0} >> kEpochShift);
  ticket_.store(epoch << kEpochShift | static_cast<std::uint64_t>(tasks),
                std::memory_order_release);
  ticket_.notify_all();
  take_tasks(epoch);
  std::int64_t left = unfinished_.load(std::memory_order_acquire);
  while (left != 0) left = await_change(unfinished_, left);
}

void ThreadPool::take_tasks(std::uint64_t epoch) {
  std::uint64_t ticket = ticket_.load(std::memory_order_acquire);
  while (ticket >> kEpochShift == epoch && (ticket & kRemainingMask) != 0) {
    if (!ticket_.compare_exchange_weak(ticket, ticket - 1, std::memory_order_acq_rel)) continue;
    call_(context_, tasks_ - static_cast<std::int64_t>(ticket & kRemainingMask));
    if (unfinished_.fetch_sub(1, std::memory_order_acq_rel) == 1) unfinished_.notify_all();
    ticket = ticket_.load(std::memory_order_acquire);
  }
}

void ThreadPool::work() {
  std::uint64_t seen = 0;
  for (;;) {
    take_tasks(seen >> kEpochShift);
    // What is left in the word when nothing can be claimed changes only with the next run.
    const std::uint64_t now = ticket_.load(std::memory_order_acquire);
    // Behind the word: the last change of it says to stop, and there is no other to wait for.
    if (stop_.load(std::memory_order_relaxed)) return;
    seen = (now & kRemainingMask) != 0 ? now : await_change(ticket_, now);
  }
}

}  // namespace kvstow::kernels::cpu
