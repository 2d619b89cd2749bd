#include "core/check.h"

namespace kvstow {

void fail_check(std::string_view condition, std::string_view message, const char* file, int line) {
  std::string text(file);
  text.append(":").append(std::to_string(line)).append(": ").append(message);
  text.append(" [").append(condition).append("]");
  throw InvariantError(text);
}

}  // namespace kvstow
