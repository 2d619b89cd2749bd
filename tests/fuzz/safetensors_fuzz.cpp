// libFuzzer on the checkpoint parsers: whatever the bytes, the outcome is a tensor or an
// InputError. The first byte chooses the parser. Build and run:
//   cmake -S . -B build/fuzz -G Ninja -D CMAKE_CXX_COMPILER=clang++ -D KVSTOW_FUZZ=ON
//   cmake --build build/fuzz --target safetensors_fuzz
//   build/fuzz/tests/fuzz/safetensors_fuzz -max_total_time=300 tests/fuzz/corpus/safetensors
#include <cstdint>
#include <span>
#include <string>

#include "core/check.h"
#include "core/exec/model/safetensors.h"
#include "core/exec/model/transformer.h"

namespace {

void read_tensors(std::span<const std::byte> bytes) {
  const kvstow::Safetensors file(bytes, "fuzz.safetensors");
  for (const auto& [name, entry] : file.tensors()) {
    std::int64_t elements = 1;
    for (const std::int64_t extent : entry.shape) elements *= extent;
    std::vector<float> out(static_cast<std::size_t>(elements));
    try {
      file.read(name, entry.shape, out);
    } catch (const kvstow::InputError&) {  // not a weight, or not finite
    }
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size == 0) return 0;
  const std::span<const std::uint8_t> rest(data + 1, size - 1);
  try {
    if (data[0] % 2 == 0) {
      read_tensors(std::as_bytes(rest));
    } else {
      (void)kvstow::parse_hf_config(std::string(rest.begin(), rest.end()), "fuzz/config.json");
    }
  } catch (const kvstow::InputError&) {
  }
  return 0;
}
