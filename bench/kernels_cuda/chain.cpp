#include "bench/kernels_cuda/chain.h"

#include <algorithm>
#include <cmath>
#include <vector>

#include "kernels/cuda/cuda_check.h"

namespace kvstow::bench {

int chain_launches(double bytes_per_launch) {
  const double by_bytes = 240e6 / bytes_per_launch;
  const double by_time = 300 / (1.5 + bytes_per_launch / 4.7e6);
  return std::clamp(static_cast<int>(std::ceil(std::max(by_bytes, by_time))), 1, 2048);
}

Chain::Chain(int launches, cudaStream_t stream,
             const std::function<void(int, cudaStream_t)>& launch)
    : launches_(launches), stream_(stream) {
  cudaGraph_t graph = nullptr;
  KVSTOW_CUDA(cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal));
  for (int i = 0; i < launches; ++i) launch(i, stream);
  KVSTOW_CUDA(cudaStreamEndCapture(stream, &graph));
  KVSTOW_CUDA(cudaGraphInstantiate(&exec_, graph, 0));
  KVSTOW_CUDA(cudaGraphDestroy(graph));
  KVSTOW_CUDA(cudaEventCreate(&begin_));
  KVSTOW_CUDA(cudaEventCreate(&end_));
}

Chain::~Chain() {
  cudaEventDestroy(begin_);
  cudaEventDestroy(end_);
  cudaGraphExecDestroy(exec_);
}

double Chain::replay() {
  KVSTOW_CUDA(cudaEventRecord(begin_, stream_));
  KVSTOW_CUDA(cudaGraphLaunch(exec_, stream_));
  KVSTOW_CUDA(cudaEventRecord(end_, stream_));
  KVSTOW_CUDA(cudaEventSynchronize(end_));
  float milliseconds = 0;
  KVSTOW_CUDA(cudaEventElapsedTime(&milliseconds, begin_, end_));
  return milliseconds * 1e3 / launches_;
}

ChainTime Chain::time(int warm_ups, int replays) {
  for (int i = 0; i < warm_ups; ++i) replay();
  std::vector<double> us(static_cast<std::size_t>(replays));
  for (double& t : us) t = replay();
  std::sort(us.begin(), us.end());
  return {us[us.size() / 2], us.front(), us.back(), launches_};
}

ChainTime time_chain(int launches, cudaStream_t stream,
                     const std::function<void(int, cudaStream_t)>& launch) {
  return Chain(launches, stream, launch).time(3, 21);
}

}  // namespace kvstow::bench
