#include "core/exec/cpu/float_array.h"

#include <sys/mman.h>

#include <limits>

#include "core/check.h"
#include "core/text.h"

namespace kvstow {

FloatArray::FloatArray(std::size_t size) : size_(size) {
  if (size == 0) return;
  constexpr std::size_t kPage = std::size_t{1} << 21;
  if (size > std::numeric_limits<std::ptrdiff_t>::max() / sizeof(float) - kPage) {
    throw InputError("a model or a KV pool larger than any memory");
  }
  const std::size_t bytes = (size * sizeof(float) + kPage - 1) / kPage * kPage;
  void* mapped = ::mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (mapped == MAP_FAILED) {
    throw InputError("not enough memory for " + format_bytes(static_cast<std::int64_t>(bytes)) +
                     " of weights or K/V");
  }
  ::madvise(mapped, bytes, MADV_HUGEPAGE);  // a wish; without it everything still works
  data_ = {static_cast<float*>(mapped), Unmap{bytes}};
}

void FloatArray::Unmap::operator()(float* data) const {
  ::munmap(data, bytes);
}

}  // namespace kvstow
