// The steps that a profiler sees: `nsys profile --capture-range=cudaProfilerApi`, or ncu with
// --profile-from-start off. Without one attached the two calls do nothing.
#pragma once

#include <cuda_profiler_api.h>
#include <cuda_runtime_api.h>

#include <cstdint>

namespace kvstow {

class ProfilerWindow {
 public:
  // Steps [from, to) in the order of their submission; none where they are equal.
  ProfilerWindow(std::int64_t from, std::int64_t to) : from_(from), to_(to) {}
  ProfilerWindow(const ProfilerWindow&) = delete;
  ProfilerWindow& operator=(const ProfilerWindow&) = delete;
  ~ProfilerWindow() {
    if (open_) cudaProfilerStop();
  }

  // Before a step's first work. What earlier steps still have on the device ends first.
  void before(std::int64_t step) {
    if (from_ == to_ || (step != from_ && step != to_)) return;
    cudaDeviceSynchronize();
    open_ = step == from_;
    open_ ? cudaProfilerStart() : cudaProfilerStop();
  }

 private:
  std::int64_t from_;
  std::int64_t to_;
  bool open_ = false;
};

}  // namespace kvstow
