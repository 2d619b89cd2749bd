#include "kernels/cpu/isa_body.inc"

namespace kvstow::kernels::cpu {

extern const Isa kAvx2;
const Isa kAvx2{"avx2", 6, &linear_tile<6, 6>, &attend_chunk};

}  // namespace kvstow::kernels::cpu
