// Marks where one class of kernels ends and another begins in a run of launches: by ranges for
// Nsight, or by events, which a graph keeps.
#pragma once

#include <cuda_runtime_api.h>

#include <deque>
#include <vector>

#include "core/exec/cuda/memory.h"
#include "core/metrics/launch_times.h"

namespace kvstow {

class LaunchMarks {
 public:
  enum class By : std::uint8_t { ranges, captured_events };
  explicit LaunchMarks(By by) : by_(by) {}

  // captured_events: between begin() and end() the stream is being captured. Several graphs may be
  // captured with the same marks, if their runs of classes are the same and their runs do not
  // overlap; times() then tells of the graph that ran last.
  void begin(cudaStream_t);
  void enter(LaunchClass, cudaStream_t);
  void end(cudaStream_t);

  // By class; the stream has passed end(). `from`: an event before begin().
  [[nodiscard]] LaunchTimes times(const Event& from) const;

 private:
  void record(cudaStream_t);

  By by_;
  std::vector<LaunchClass> stretches_;
  std::deque<Event> events_;
  std::size_t recorded_ = 0;
};

// Where nobody asked there are no marks.
inline void enter(LaunchMarks* marks, LaunchClass kind, cudaStream_t stream) {
  if (marks != nullptr) marks->enter(kind, stream);
}

}  // namespace kvstow
