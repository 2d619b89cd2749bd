#include "bench/experiment/cuda_point.h"
#include "bench/kvstow/logits_model.h"
#include "core/check.h"

namespace kvstow {

std::unique_ptr<LogitsModel> cuda_logits_model(const Transformer&, const WeightSource&,
                                               kernels::DType, const LogitsRoom&) {
  throw InputError(kNoCuda);
}

}  // namespace kvstow
