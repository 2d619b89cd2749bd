// A large array of floats on huge pages where the system grants them: weights and K/V are read in
// long streams, and 4 KiB pages cost a translation every 64 cache lines.
#pragma once

#include <cstddef>
#include <memory>

namespace kvstow {

class FloatArray {
 public:
  FloatArray() = default;
  explicit FloatArray(std::size_t size);  // zeros; throws InputError where memory is short

  [[nodiscard]] float* data() { return data_.get(); }
  [[nodiscard]] const float* data() const { return data_.get(); }
  [[nodiscard]] std::size_t size() const { return size_; }
  [[nodiscard]] bool empty() const { return size_ == 0; }

 private:
  struct Unmap {
    std::size_t bytes;
    void operator()(float*) const;
  };
  std::unique_ptr<float[], Unmap> data_{nullptr, Unmap{0}};
  std::size_t size_ = 0;
};

}  // namespace kvstow
