// Units are types. A slot is not a token count, a byte is not a block, and the compiler says so.
// They print as their number, into whatever has <<: a failed test shows what it compared.
#pragma once

#include <compare>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <limits>

namespace kvstow {

// A signed amount of one unit. Amounts of the same unit add, subtract and compare; a product needs
// a plain number; a quotient of two amounts is a plain number.
template <class Unit>
class Amount {
 public:
  using Rep = std::int64_t;

  constexpr Amount() = default;
  constexpr explicit Amount(Rep value) : value_(value) {}

  [[nodiscard]] constexpr Rep count() const { return value_; }

  friend constexpr auto operator<=>(Amount, Amount) = default;
  friend constexpr Amount operator+(Amount a, Amount b) { return Amount(a.value_ + b.value_); }
  friend constexpr Amount operator-(Amount a, Amount b) { return Amount(a.value_ - b.value_); }
  friend constexpr Amount operator-(Amount a) { return Amount(-a.value_); }
  friend constexpr Amount operator*(Amount a, Rep n) { return Amount(a.value_ * n); }
  friend constexpr Amount operator*(Rep n, Amount a) { return Amount(a.value_ * n); }
  friend constexpr Rep operator/(Amount a, Amount b) { return a.value_ / b.value_; }
  friend constexpr Rep operator%(Amount a, Amount b) { return a.value_ % b.value_; }
  constexpr Amount& operator+=(Amount b) { return value_ += b.value_, *this; }
  constexpr Amount& operator-=(Amount b) { return value_ -= b.value_, *this; }
  constexpr Amount& operator++() { return ++value_, *this; }
  template <class Stream>
  friend Stream& operator<<(Stream& out, Amount a) {
    return out << a.value_, out;
  }

 private:
  Rep value_ = 0;
};

// A name for one thing of a kind: dense, small, usable as an index, with one value for "none".
template <class Kind>
class Id {
 public:
  using Rep = std::uint32_t;

  constexpr Id() = default;
  constexpr explicit Id(Rep index) : index_(index) {}

  [[nodiscard]] constexpr Rep index() const { return index_; }
  [[nodiscard]] constexpr bool valid() const { return index_ != kNone; }

  friend constexpr auto operator<=>(Id, Id) = default;
  template <class Stream>
  friend Stream& operator<<(Stream& out, Id id) {
    return id.valid() ? (out << id.index(), out) : (out << "none", out);
  }

 private:
  static constexpr Rep kNone = std::numeric_limits<Rep>::max();
  Rep index_ = kNone;
};

using Tokens = Amount<struct TokensUnit>;  // tokens, and the slots that hold them one for one
using Blocks = Amount<struct BlocksUnit>;  // fixed runs of slots
using Bytes = Amount<struct BytesUnit>;

using SeqId = Id<struct SeqKind>;  // one sequence (a sample, a beam); recycled after release
using BlockId =
    Id<struct BlockKind>;  // block b covers slots [b * block_tokens, (b+1) * block_tokens)
using RequestId = Id<struct RequestKind>;  // position of a request in its trace; never recycled
using PrefixId = Id<struct PrefixKind>;    // a shared prefix (system prompt) of the workload

// Room for one token's K and V: an index into the pool of its tier.
class Slot {
 public:
  constexpr Slot() = default;
  constexpr explicit Slot(std::int64_t index) : index_(index) {}
  [[nodiscard]] constexpr std::int64_t index() const { return index_; }
  friend constexpr auto operator<=>(Slot, Slot) = default;
  friend constexpr Slot operator+(Slot s, Tokens n) { return Slot(s.index_ + n.count()); }
  friend constexpr Tokens operator-(Slot a, Slot b) { return Tokens(a.index_ - b.index_); }
  template <class Stream>
  friend Stream& operator<<(Stream& out, Slot s) {
    return out << s.index_, out;
  }

 private:
  std::int64_t index_ = 0;
};

// Seconds on the injected clock (simulated or wall), measured from the start of the run.
using Seconds = double;

[[nodiscard]] constexpr std::int64_t ceil_div(std::int64_t a, std::int64_t b) {
  return (a + b - 1) / b;
}
[[nodiscard]] constexpr Tokens min(Tokens a, Tokens b) {
  return a < b ? a : b;
}
[[nodiscard]] constexpr Tokens max(Tokens a, Tokens b) {
  return a < b ? b : a;
}

}  // namespace kvstow

template <class Kind>
struct std::hash<kvstow::Id<Kind>> {
  std::size_t operator()(kvstow::Id<Kind> id) const noexcept { return id.index(); }
};
