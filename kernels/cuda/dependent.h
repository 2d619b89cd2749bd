// Whether a kernel may start under its predecessor's tail (programmatic dependent launch).
#pragma once

namespace kvstow::kernels::cuda {

enum class Dependent : bool { no, yes };

}  // namespace kvstow::kernels::cuda
