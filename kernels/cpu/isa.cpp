#include "kernels/cpu/isa.h"

#include <cstdlib>
#include <string>
#include <string_view>
#include <vector>

#include "core/check.h"

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
    if (wanted == nullptr || *wanted == '\0') return available_isas().front();
    std::string known;
    for (const Isa* candidate : available_isas()) {
      if (std::string_view(wanted) == candidate->name) return candidate;
      known.append(known.empty() ? "" : ", ").append(candidate->name);
    }
    throw InputError(std::string("KVSTOW_ISA is '") + wanted + "'; this machine has " + known);
  }();
  return *chosen;
}

}  // namespace kvstow::kernels::cpu
