#include "core/exec/cuda/memory.h"

#include "core/check.h"
#include "core/exec/cuda/step_kernels.h"
#include "core/text.h"
#include "kernels/cuda/cuda_check.h"

namespace kvstow {

void require_cuda_device() {
  int devices = 0;
  const cudaError_t status = cudaGetDeviceCount(&devices);
  if (status != cudaSuccess || devices == 0) {
    cudaGetLastError();
    throw InputError(std::string("executor cuda needs an NVIDIA GPU and its driver: ") +
                     (status == cudaSuccess ? "no device" : cudaGetErrorString(status)));
  }
  int major = 0;
  KVSTOW_CUDA(cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, 0));
  if (major < 8) {
    throw InputError("executor cuda needs a GPU of compute capability 8.0 or later, this one is " +
                     std::to_string(major) + ".x");
  }
  if (!has_code_for_device()) {
    throw InputError(
        "executor cuda: this build has no code for the GPU, whose compute capability is " +
        std::to_string(major) + ".x (CMAKE_CUDA_ARCHITECTURES)");
  }
}

namespace detail {

void* device_bytes(std::size_t bytes, const std::string& what) {
  void* p = nullptr;
  const cudaError_t status = cudaMalloc(&p, bytes > 0 ? bytes : 1);
  if (status == cudaErrorMemoryAllocation) {
    cudaGetLastError();  // not sticky
    std::size_t free = 0;
    std::size_t total = 0;
    KVSTOW_CUDA(cudaMemGetInfo(&free, &total));
    throw InputError("not enough GPU memory for " + what + ": " +
                     format_bytes(static_cast<std::int64_t>(bytes)) + " wanted, " +
                     format_bytes(static_cast<std::int64_t>(free)) + " of " +
                     format_bytes(static_cast<std::int64_t>(total)) + " free");
  }
  KVSTOW_CUDA_SHAPE(status, what);
  return p;
}

void* pinned_bytes(std::size_t bytes, const std::string& what) {
  void* p = nullptr;
  const cudaError_t status = cudaHostAlloc(&p, bytes > 0 ? bytes : 1, cudaHostAllocDefault);
  if (status == cudaErrorMemoryAllocation) {
    cudaGetLastError();
    throw InputError("not enough pinned host memory for " + what + ": " +
                     format_bytes(static_cast<std::int64_t>(bytes)) + " wanted");
  }
  KVSTOW_CUDA_SHAPE(status, what);
  return p;
}

// cudaMemset returns before it is done, and our streams do not wait for the default one.
void fill_bytes(void* at, int byte, std::size_t bytes) {
  KVSTOW_CUDA(cudaMemset(at, byte, bytes));
  KVSTOW_CUDA(cudaStreamSynchronize(nullptr));
}

}  // namespace detail

Stream::Stream() {
  KVSTOW_CUDA(cudaStreamCreateWithFlags(&stream_, cudaStreamNonBlocking));
}

Event::Event(unsigned flags) {
  KVSTOW_CUDA(cudaEventCreateWithFlags(&event_, flags));
}

double seconds_between(const Event& from, const Event& to) {
  float ms = 0;
  KVSTOW_CUDA(cudaEventElapsedTime(&ms, from, to));
  return ms * 1e-3;
}

void Graph::begin(cudaStream_t stream) {
  KVSTOW_CUDA(cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal));
}

void Graph::end(cudaStream_t stream) {
  cudaGraph_t graph = nullptr;
  KVSTOW_CUDA(cudaStreamEndCapture(stream, &graph));
  cudaError_t status = cudaGraphInstantiate(&exec_, graph, 0);
  KVSTOW_CUDA(cudaGraphDestroy(graph));
  if (status == cudaSuccess) status = cudaGraphUpload(exec_, stream);
  if (status == cudaErrorMemoryAllocation) {
    cudaGetLastError();
    throw InputError("not enough GPU memory for the graphs of decode steps");
  }
  KVSTOW_CUDA(status);
}

Graph::~Graph() {
  if (exec_ != nullptr) cudaGraphExecDestroy(exec_);
}

void Graph::launch(cudaStream_t stream) const {
  KVSTOW_CUDA(cudaGraphLaunch(exec_, stream));
}

}  // namespace kvstow
