#include "core/exec/rows/computing_executor.h"

#include <algorithm>

namespace kvstow {

void PoolImage::gather(std::span<const std::byte> pool, std::size_t planes, std::size_t slots) {
  const std::size_t part = slots == 0 ? 0 : pool.size() / planes / slots;
  slot_bytes = planes * part;
  data.resize(pool.size());
  for (std::size_t plane = 0; plane < planes; ++plane) {
    for (std::size_t s = 0; s < slots; ++s) {
      const auto from = pool.subspan((plane * slots + s) * part, part);
      std::copy(from.begin(), from.end(),
                slot(s).begin() + static_cast<std::ptrdiff_t>(plane * part));
    }
  }
}

}  // namespace kvstow
