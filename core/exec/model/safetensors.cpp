#include "core/exec/model/safetensors.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <fmt/ranges.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <nlohmann/json.hpp>

#include "core/check.h"
#include "core/text.h"

namespace kvstow {
namespace {

using Json = nlohmann::json;

constexpr std::size_t kLengthBytes = 8;
constexpr std::size_t kMaxHeaderBytes = 100'000'000;  // the reference implementation's own limit

struct TypeName {
  const char* name;
  std::size_t bytes;
  TensorType type;
};
constexpr TypeName kTypes[] = {
    {"F32", 4, TensorType::f32},   {"F16", 2, TensorType::f16},   {"BF16", 2, TensorType::bf16},
    {"F64", 8, TensorType::other}, {"I64", 8, TensorType::other}, {"I32", 4, TensorType::other},
    {"I16", 2, TensorType::other}, {"I8", 1, TensorType::other},  {"U64", 8, TensorType::other},
    {"U32", 4, TensorType::other}, {"U16", 2, TensorType::other}, {"U8", 1, TensorType::other},
    {"BOOL", 1, TensorType::other}};

float from_bits(std::uint32_t bits) {
  float value;
  std::memcpy(&value, &bits, sizeof value);
  return value;
}

float from_half(std::uint16_t half) {
  const std::uint32_t sign = std::uint32_t{half & 0x8000u} << 16;
  const std::uint32_t exponent = half >> 10 & 31u;
  const std::uint32_t mantissa = half & 0x3ffu;
  if (exponent == 31) return from_bits(sign | 0x7f800000u | mantissa << 13);
  if (exponent == 0) {
    const float magnitude = static_cast<float>(mantissa) * 0x1.0p-24f;
    return sign ? -magnitude : magnitude;
  }
  return from_bits(sign | (exponent + 112) << 23 | mantissa << 13);
}

std::uint16_t half_word(const std::byte* p) {
  std::uint16_t word;
  std::memcpy(&word, p, sizeof word);
  return word;
}

// Words with every bit of the exponent set are infinities and NaNs.
template <class Word>
bool all_finite(std::span<const std::byte> words, Word exponent) {
  bool finite = true;
  for (std::size_t i = 0; i < words.size(); i += sizeof(Word)) {
    Word word;
    std::memcpy(&word, words.data() + i, sizeof word);
    finite &= (word & exponent) != exponent;
  }
  return finite;
}

bool is_size(const Json& value) {
  return value.is_number_unsigned();
}

}  // namespace

void Safetensors::fail(const std::string& tensor, const std::string& what) const {
  throw InputError(tensor.empty() ? fmt::format("{}: {}", file_, what)
                                  : fmt::format("{}: tensor {}: {}", file_, tensor, what));
}

Safetensors::Safetensors(std::span<const std::byte> bytes, std::string file)
    : file_(std::move(file)) {
  if (bytes.size() < kLengthBytes) fail("", "too short for a safetensors file");
  std::uint64_t header_bytes = 0;
  for (std::size_t i = 0; i < kLengthBytes; ++i) {
    header_bytes |= static_cast<std::uint64_t>(bytes[i]) << (8 * i);
  }
  if (header_bytes > kMaxHeaderBytes || header_bytes > bytes.size() - kLengthBytes) {
    fail("", fmt::format("truncated or not safetensors: a header of {} bytes in a file of {}",
                         header_bytes, bytes.size()));
  }
  const auto* text = reinterpret_cast<const char*>(bytes.data() + kLengthBytes);
  const Json header = Json::parse(text, text + header_bytes, nullptr, false);
  if (header.is_discarded() || !header.is_object()) fail("", "the header is not a JSON object");
  data_ = bytes.subspan(kLengthBytes + header_bytes);

  for (const auto& [name, value] : header.items()) {
    if (name == "__metadata__") continue;
    if (!value.is_object() || !value.contains("dtype") || !value["dtype"].is_string() ||
        !value.contains("shape") || !value["shape"].is_array() || !value.contains("data_offsets") ||
        !value["data_offsets"].is_array()) {
      fail(name, "the header entry needs dtype, shape and data_offsets");
    }
    TensorEntry entry;
    entry.type_name = value["dtype"].get<std::string>();
    const auto* type = std::find_if(std::begin(kTypes), std::end(kTypes),
                                    [&](const TypeName& t) { return entry.type_name == t.name; });
    if (type == std::end(kTypes)) fail(name, fmt::format("unknown dtype {}", entry.type_name));
    entry.type = type->type;
    std::size_t size = type->bytes;
    for (const Json& extent : value["shape"]) {
      if (!is_size(extent)) fail(name, "the shape is not a list of sizes");
      const auto n = extent.get<std::uint64_t>();
      if (n > INT64_MAX || (n != 0 && size > data_.size() / n)) {
        fail(name, fmt::format("the shape asks for more than the file's {} bytes", bytes.size()));
      }
      size *= n;
      entry.shape.push_back(static_cast<std::int64_t>(n));
    }
    const Json& offsets = value["data_offsets"];
    if (offsets.size() != 2 || !is_size(offsets[0]) || !is_size(offsets[1])) {
      fail(name, "data_offsets is not a pair of sizes");
    }
    entry.begin = offsets[0].get<std::size_t>();
    entry.end = offsets[1].get<std::size_t>();
    if (entry.begin > entry.end || entry.end > data_.size()) {
      fail(name, fmt::format("bytes [{}, {}) are outside the file's {} bytes of data (truncated?)",
                             entry.begin, entry.end, data_.size()));
    }
    if (entry.end - entry.begin != size) {
      fail(name, fmt::format("{} bytes for a {} tensor of shape [{}], which needs {}",
                             entry.end - entry.begin, entry.type_name, fmt::join(entry.shape, ", "),
                             size));
    }
    tensors_.emplace(name, std::move(entry));
  }

  // The data is exactly the tensors, none overlapping another, nothing between them.
  std::vector<const std::pair<const std::string, TensorEntry>*> order;
  for (const auto& item : tensors_) order.push_back(&item);
  std::sort(order.begin(), order.end(), [](const auto* a, const auto* b) {
    return std::pair(a->second.begin, a->second.end) < std::pair(b->second.begin, b->second.end);
  });
  std::size_t at = 0;
  for (const auto* item : order) {
    if (item->second.begin != at) fail(item->first, "overlaps another tensor or leaves a gap");
    at = item->second.end;
  }
  if (at != data_.size()) {
    fail("", fmt::format("{} bytes after the last tensor", data_.size() - at));
  }
}

const TensorEntry& Safetensors::entry_of(const std::string& name,
                                         std::span<const std::int64_t> shape) const {
  const auto found = tensors_.find(name);
  if (found == tensors_.end()) {
    std::vector<std::string> names;
    for (const auto& [other, entry] : tensors_) names.push_back(other);
    fail(name, fmt::format("missing (nearest: {})", nearest_name(name, names)));
  }
  const std::vector<std::int64_t>& there = found->second.shape;
  if (!std::equal(shape.begin(), shape.end(), there.begin(), there.end())) {
    fail(name, fmt::format("has shape [{}], but config.json asks for [{}]", fmt::join(there, ", "),
                           fmt::join(shape, ", ")));
  }
  return found->second;
}

void Safetensors::read(const std::string& name, std::span<const std::int64_t> shape,
                       std::span<float> out) const {
  const TensorEntry& tensor = entry_of(name, shape);
  const std::byte* from = data_.data() + tensor.begin;
  switch (tensor.type) {
    case TensorType::f32:
      std::memcpy(out.data(), from, out.size_bytes());
      break;
    case TensorType::f16:
      for (std::size_t i = 0; i < out.size(); ++i) out[i] = from_half(half_word(from + 2 * i));
      break;
    case TensorType::bf16:
      for (std::size_t i = 0; i < out.size(); ++i) {
        out[i] = from_bits(std::uint32_t{half_word(from + 2 * i)} << 16);
      }
      break;
    case TensorType::other:
      fail(name, fmt::format("dtype {} cannot be a weight", tensor.type_name));
  }
  for (std::size_t i = 0; i < out.size(); ++i) {
    if (!std::isfinite(out[i])) fail(name, fmt::format("element {} is {}", i, out[i]));
  }
}

std::span<const std::byte> Safetensors::bytes(const std::string& name,
                                              std::span<const std::int64_t> shape,
                                              TensorType type) const {
  const TensorEntry& tensor = entry_of(name, shape);
  if (tensor.type != type) return {};
  const std::span<const std::byte> stored = data_.subspan(tensor.begin, tensor.end - tensor.begin);
  const bool finite = type == TensorType::f32   ? all_finite<std::uint32_t>(stored, 0x7f800000u)
                      : type == TensorType::f16 ? all_finite<std::uint16_t>(stored, 0x7c00u)
                                                : all_finite<std::uint16_t>(stored, 0x7f80u);
  if (!finite) {  // read() says which element
    std::vector<float> values(stored.size() / (type == TensorType::f32 ? 4 : 2));
    read(name, shape, values);
  }
  return stored;
}

MappedFile::MappedFile(const std::string& path) {
  const int fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
  struct stat info {};
  if (fd < 0 || ::fstat(fd, &info) != 0 || !S_ISREG(info.st_mode)) {
    if (fd >= 0) ::close(fd);
    throw InputError(path + ": cannot be read");
  }
  size_ = static_cast<std::size_t>(info.st_size);
  void* mapped = size_ == 0 ? nullptr : ::mmap(nullptr, size_, PROT_READ, MAP_PRIVATE, fd, 0);
  ::close(fd);
  if (mapped == MAP_FAILED) throw InputError(path + ": cannot be mapped into memory");
  data_ = static_cast<const std::byte*>(mapped);
}

MappedFile::~MappedFile() {
  if (data_ != nullptr) ::munmap(const_cast<std::byte*>(data_), size_);
}

}  // namespace kvstow
