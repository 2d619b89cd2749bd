// Elements of a dtype that is known at run time.
#pragma once

#include <cstdint>
#include <string>

#include "core/exec/cuda/memory.h"
#include "kernels/kv_cache.h"

namespace kvstow {

class DeviceTensor {
 public:
  DeviceTensor() = default;
  DeviceTensor(std::int64_t elements, kernels::DType dtype, const std::string& what)
      : bytes_(static_cast<std::size_t>(elements) * kernels::size_of(dtype), what),
        element_bytes_(static_cast<std::int64_t>(kernels::size_of(dtype))) {}

  // Null where there are no elements.
  [[nodiscard]] void* get() const { return bytes_.get(); }
  [[nodiscard]] void* at(std::int64_t element) const {
    return bytes_.get() + element * element_bytes_;
  }
  void fill_bytes(int byte) { bytes_.fill_bytes(byte); }
  [[nodiscard]] std::int64_t elements() const {
    return static_cast<std::int64_t>(bytes_.size()) / element_bytes_;
  }

 private:
  DeviceBuffer<unsigned char> bytes_;
  std::int64_t element_bytes_ = 1;
};

}  // namespace kvstow
