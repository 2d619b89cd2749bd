// One way to launch: with the cluster and programmatic-dependent-launch attributes beside the
// shape, and errors that name the kernel and that shape.
#pragma once

#include <cuda_runtime.h>

#include <cstddef>
#include <initializer_list>
#include <string>

#include "kernels/cuda/cuda_check.h"

namespace kvstow::kernels::cuda {

struct LaunchShape {
  dim3 grid;
  dim3 block;
  std::size_t shared_bytes = 0;  // dynamic
  int cluster = 1;               // blocks of one cluster, along x
  bool dependent = false;        // may start while the kernel before it in the stream still runs
};

// Whether kernels wait for the one before by themselves (ptx.cuh). Where one architecture of this
// build has no such instruction the launch has to wait, or a kernel would read what is not there.
inline constexpr bool kKernelsWait = [] {
  for (const int arch : {__CUDA_ARCH_LIST__}) {
    if (arch < 900) return false;
  }
  return true;
}();

inline std::string describe(const char* name, const LaunchShape& s) {
  const auto xyz = [](dim3 d) {
    return std::to_string(d.x) + "x" + std::to_string(d.y) + "x" + std::to_string(d.z);
  };
  return std::string(name) + ", grid " + xyz(s.grid) + ", block " + xyz(s.block) + ", shared " +
         std::to_string(s.shared_bytes) + " bytes, cluster " + std::to_string(s.cluster);
}

template <class... Params, class... Values>
void launch(const char* name, void (*kernel)(Params...), const LaunchShape& shape,
            cudaStream_t stream, Values... values) {
  cudaLaunchAttribute attributes[2];
  unsigned count = 0;
  if (shape.cluster > 1) {
    attributes[count].id = cudaLaunchAttributeClusterDimension;
    attributes[count].val.clusterDim.x = static_cast<unsigned>(shape.cluster);
    attributes[count].val.clusterDim.y = 1;
    attributes[count].val.clusterDim.z = 1;
    ++count;
  }
  if (shape.dependent && kKernelsWait) {
    attributes[count].id = cudaLaunchAttributeProgrammaticStreamSerialization;
    attributes[count].val.programmaticStreamSerializationAllowed = 1;
    ++count;
  }
  cudaLaunchConfig_t config{};
  config.gridDim = shape.grid;
  config.blockDim = shape.block;
  config.dynamicSmemBytes = shape.shared_bytes;
  config.stream = stream;
  config.attrs = attributes;
  config.numAttrs = count;
  const cudaError_t status = cudaLaunchKernelEx(&config, kernel, static_cast<Params>(values)...);
  if (status != cudaSuccess) check(status, "cudaLaunchKernelEx", describe(name, shape));
}

}  // namespace kvstow::kernels::cuda
