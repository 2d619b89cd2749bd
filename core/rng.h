// Random numbers: counter-based, one stream per purpose, so that drawing more lengths can never
// shift the arrivals. The same (seed, stream) gives the same numbers on every platform, which
// <random>'s distributions do not promise.
#pragma once

#include <cmath>
#include <cstdint>
#include <string_view>

namespace kvstow {

// splitmix64's finaliser (Steele, Lea, Flood, OOPSLA 2014): a bijection that mixes every bit.
[[nodiscard]] constexpr std::uint64_t mix64(std::uint64_t x) {
  x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9ULL;
  x = (x ^ (x >> 27)) * 0x94d049bb133111ebULL;
  return x ^ (x >> 31);
}

// Number `i`, from 0, of the stream with this key. A key of several parts takes one after the
// other.
[[nodiscard]] constexpr std::uint64_t mix64(std::uint64_t key, std::uint64_t i) {
  return mix64(key + 0x9e3779b97f4a7c15ULL * (i + 1));
}

// FNV-1a: a stable name for a stream.
[[nodiscard]] constexpr std::uint64_t hash_name(std::string_view text) {
  std::uint64_t hash = 0xcbf29ce484222325ULL;
  for (const char c : text) hash = (hash ^ static_cast<unsigned char>(c)) * 0x100000001b3ULL;
  return hash;
}

class RandomStream {
 public:
  RandomStream(std::uint64_t seed, std::string_view purpose) : RandomStream(key(seed, purpose)) {}
  explicit RandomStream(std::uint64_t key) : key_(key) {}

  [[nodiscard]] static std::uint64_t key(std::uint64_t seed, std::string_view purpose) {
    return mix64(seed, 0) ^ hash_name(purpose);
  }

  [[nodiscard]] std::uint64_t bits() { return mix64(key_, counter_++); }

  // Uniform in [0, 1), 53 bits.
  [[nodiscard]] double uniform() { return static_cast<double>(bits() >> 11) * 0x1.0p-53; }

  // Uniform in {0, ..., n - 1}, 0 < n < 2^32 (multiply-shift; biased by less than n / 2^32).
  [[nodiscard]] std::uint32_t below(std::uint32_t n) {
    return static_cast<std::uint32_t>(((bits() >> 32) * n) >> 32);
  }

  // Exponential with mean 1.
  [[nodiscard]] double exponential() { return -std::log1p(-uniform()); }

  // Standard normal (Marsaglia's polar method, one of the pair).
  [[nodiscard]] double normal() {
    for (;;) {
      const double u = 2 * uniform() - 1;
      const double v = 2 * uniform() - 1;
      const double s = u * u + v * v;
      if (s > 0 && s < 1) return u * std::sqrt(-2 * std::log(s) / s);
    }
  }

  // Gamma with the given shape > 0 and scale 1 (Marsaglia and Tsang, TOMS 2000).
  [[nodiscard]] double gamma(double shape) {
    if (shape < 1) return gamma(shape + 1) * std::pow(1 - uniform(), 1 / shape);
    const double d = shape - 1.0 / 3;
    const double c = 1 / std::sqrt(9 * d);
    for (;;) {
      const double x = normal();
      const double v = std::pow(1 + c * x, 3);
      if (v > 0 && std::log(1 - uniform()) < 0.5 * x * x + d - d * v + d * std::log(v))
        return d * v;
    }
  }

 private:
  std::uint64_t key_;
  std::uint64_t counter_ = 0;
};

}  // namespace kvstow
