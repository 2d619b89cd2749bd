// The safetensors container: an 8-byte length, a JSON header of that length (tensor name -> dtype,
// shape, byte range), the data. Format: https://github.com/huggingface/safetensors, README.
//
// Nothing in the file is believed before it is checked: a header that lies about sizes, ranges or
// shapes is an InputError that names file and tensor, never an over-read.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <span>
#include <string>
#include <vector>

namespace kvstow {

enum class TensorType : std::uint8_t { f32, f16, bf16, other };  // other: listed, cannot be read

struct TensorEntry {
  TensorType type = TensorType::other;
  std::string type_name;  // as in the file
  std::vector<std::int64_t> shape;
  std::size_t begin = 0;  // byte range in the data
  std::size_t end = 0;
};

// A view of one container in memory; `bytes` must outlive it.
class Safetensors {
 public:
  // `file` stands for the container in messages.
  Safetensors(std::span<const std::byte> bytes, std::string file);

  [[nodiscard]] const std::map<std::string, TensorEntry>& tensors() const { return tensors_; }
  [[nodiscard]] const std::string& file() const { return file_; }

  // Converts a tensor of the given shape to f32. Throws where it is missing, has another shape or
  // type, or holds a NaN or an infinity. REQUIRES: out.size() is the product of the shape.
  void read(const std::string& name, std::span<const std::int64_t> shape,
            std::span<float> out) const;

  // The same tensor as it is stored, with the same checks; empty where it is stored in another type
  // than this one.
  [[nodiscard]] std::span<const std::byte> bytes(const std::string& name,
                                                 std::span<const std::int64_t> shape,
                                                 TensorType type) const;

 private:
  [[nodiscard]] const TensorEntry& entry_of(const std::string& name,
                                            std::span<const std::int64_t> shape) const;
  [[noreturn]] void fail(const std::string& tensor, const std::string& what) const;

  std::span<const std::byte> data_;
  std::string file_;
  std::map<std::string, TensorEntry> tensors_;
};

// A whole file, mapped read-only.
class MappedFile {
 public:
  explicit MappedFile(const std::string& path);  // throws InputError
  ~MappedFile();
  MappedFile(const MappedFile&) = delete;
  MappedFile& operator=(const MappedFile&) = delete;

  [[nodiscard]] std::span<const std::byte> bytes() const { return {data_, size_}; }

 private:
  const std::byte* data_ = nullptr;
  std::size_t size_ = 0;
};

}  // namespace kvstow
