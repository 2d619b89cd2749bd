#include "kernels/cpu/isa_body.inc"

namespace kvstow::kernels::cpu {

extern const Isa kPortable;
const Isa kPortable{"portable", 2, &linear_tile<2, 2>, &attend_chunk};

}  // namespace kvstow::kernels::cpu
