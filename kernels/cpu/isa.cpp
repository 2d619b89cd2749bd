#include "kernels/cpu/isa.h"

#include <cstdlib>
#include <string_view>
#include <vector>

namespace kvstow::kernels::cpu {

extern const Isa kPortable;
#if defined(__x86_64__)
extern const Isa kAvx512;
extern const Isa kAvx2;
#endif

std::span<const Isa* const> available_isas() {
  static const std::vector<const Isa*> all = [] {
    std::vector<const Isa*> list;
#if defined(__x86_64__)
    __builtin_cpu_init();
    const bool avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
    if (avx2 && __builtin_cpu_supports("avx512f")) list.push_back(&kAvx512);
    if (avx2) list.push_back(&kAvx2);
#endif
    list.push_back(&kPortable);
    return list;
  }();
  return all;
}

const Isa& isa() {
  static const Isa* const chosen = [] {
    const char* wanted = std::getenv("KVSTOW_ISA");
    for (const Isa* candidate : available_isas()) {
      if (wanted && std::string_view(wanted) == candidate->name) return candidate;
    }
    return available_isas().front();
  }();
  return *chosen;
}

}  // namespace kvstow::kernels::cpu
