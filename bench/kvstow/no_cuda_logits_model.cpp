#include "bench/kvstow/logits_model.h"
#include "core/check.h"

namespace kvstow {

std::unique_ptr<LogitsModel> cuda_logits_model(const Transformer&, const WeightSource&,
                                               kernels::DType, const LogitsRoom&) {
  throw InputError("this build has no executor cuda: configure with a CUDA toolkit (preset cuda)");
}

}  // namespace kvstow
