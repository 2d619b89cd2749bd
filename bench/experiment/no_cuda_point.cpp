#include "bench/experiment/cuda_point.h"
#include "core/check.h"

namespace kvstow {

DeviceNeeds device_needs(const std::string&, const PoolConfig&,
                         const std::variant<IterationConfig, StaticBatchConfig>&, int) {
  return {};
}

std::unique_ptr<ComputingExecutor> make_cuda_executor(const ResolvedPoint&, const KvAllocator&,
                                                      const DeviceNeeds&, HostProfile*) {
  throw InputError(kNoCuda);
}

std::string cuda_device() {
  throw InputError(kNoCuda);
}

std::vector<DeviceStep> device_steps(Executor&) {
  return {};
}

std::optional<DeviceTimes> device_times(Executor&) {
  return std::nullopt;
}

}  // namespace kvstow
