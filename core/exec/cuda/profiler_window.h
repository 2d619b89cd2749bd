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

  // Before a step's first work. What earlier steps still have on the device ends first.
  void before(std::int64_t step) const {
    if (step != from_ || from_ == to_) return;
    cudaDeviceSynchronize();
    cudaProfilerStart();
  }
  // After a step has been waited for.
  void after(std::int64_t step) const {
    if (step + 1 == to_ && from_ < to_) cudaProfilerStop();
  }

 private:
  std::int64_t from_;
  std::int64_t to_;
};

}  // namespace kvstow
