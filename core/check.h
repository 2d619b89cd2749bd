// Two kinds of failure: a broken invariant of our own (KVSTOW_CHECK, a bug) and bad input of the
// user's (InputError, one clear line and exit code 2).
#pragma once

#include <stdexcept>
#include <string>
#include <string_view>

namespace kvstow {

// What the user gave cannot be used. The message is one line and names file and line where known.
class InputError : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

// An invariant of ours does not hold. Thrown, not aborted, so that tests can plant faults and see
// them caught.
class InvariantError : public std::logic_error {
 public:
  using std::logic_error::logic_error;
};

// The builtins, not std::source_location: clang gained what libstdc++'s needs in version 16 only.
[[noreturn]] void fail_check(std::string_view condition, std::string_view message,
                             const char* file = __builtin_FILE(), int line = __builtin_LINE());

}  // namespace kvstow

// Always on: for conditions that cost nothing beside the work they guard.
#define KVSTOW_CHECK(condition, message)           \
  do {                                             \
    if (!(condition)) [[unlikely]]                 \
      ::kvstow::fail_check(#condition, (message)); \
  } while (false)

// On in builds with checks (preset dev): for conditions on the hot path.
#ifdef KVSTOW_CHECKS
#define KVSTOW_DCHECK(condition, message) KVSTOW_CHECK(condition, message)
#else
#define KVSTOW_DCHECK(condition, message) \
  do {                                    \
  } while (false)
#endif
