#include "kernels/cpu/isa_body.inc"

namespace kvstow::kernels::cpu {

extern const Isa kAvx512;
const Isa kAvx512{"avx512", 6, &linear_tile<6, 24>, &attend_chunk};

}  // namespace kvstow::kernels::cpu
