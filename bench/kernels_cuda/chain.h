// How a kernel is timed: as a link of a chain. One CUDA graph of R launches, launch i on its own
// slice of K and V, so that the cache is cold and the launch cost is the one a model's layers pay.
#pragma once

#include <cuda_runtime_api.h>

#include <functional>

namespace kvstow::bench {

// Launches needed so that a replay moves at least 240 MB (several times the L2 cache) and takes at
// least 300 us (events tick in half microseconds), at most 2048. Deterministic: the time of a
// launch is taken as 1.5 us + bytes / (4.7 TB/s).
int chain_launches(double bytes_per_launch);

struct ChainTime {
  double median_us;  // of one launch
  double low_us;     // smallest and largest of the replays
  double high_us;
  int launches;
};

// launch(0 .. launches - 1), captured once.
class Chain {
 public:
  Chain(int launches, cudaStream_t stream, const std::function<void(int, cudaStream_t)>& launch);
  ~Chain();
  Chain(const Chain&) = delete;
  Chain& operator=(const Chain&) = delete;

  // Microseconds of one launch in one replay, by events around it.
  double replay();
  ChainTime time(int warm_ups, int replays);

 private:
  int launches_;
  cudaStream_t stream_;
  cudaGraphExec_t exec_ = nullptr;
  cudaEvent_t begin_ = nullptr;
  cudaEvent_t end_ = nullptr;
};

// Three replays to warm up, 21 to measure.
ChainTime time_chain(int launches, cudaStream_t stream,
                     const std::function<void(int, cudaStream_t)>& launch);

}  // namespace kvstow::bench
