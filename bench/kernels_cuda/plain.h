// The rulers: what the memory gives to a kernel that does nothing else.
#pragma once

#include <cuda_runtime_api.h>

#include <cstddef>
#include <vector>

namespace kvstow::bench {

// One way of reading a run of bytes; none is best at every size, so all are measured and the
// fastest is the plain read.
struct PlainRead {
  const char* name;
  void (*launch)(const void* data, std::size_t bytes, unsigned* sink, int sms, cudaStream_t);
};
const std::vector<PlainRead>& plain_reads();

// Copies `bytes` (a multiple of 16), both ways counted by the caller.
void plain_copy(void* to, const void* from, std::size_t bytes, int sms, cudaStream_t stream);

// Does nothing, with or without programmatic dependent launch: the floor of a launch.
void empty_launch(int blocks, bool dependent, cudaStream_t stream);

}  // namespace kvstow::bench
