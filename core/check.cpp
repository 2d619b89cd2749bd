#include "core/check.h"

namespace kvstow {

void fail_check(std::string_view condition, std::string_view message, std::source_location where) {
  std::string text(where.file_name());
  text.append(":").append(std::to_string(where.line())).append(": ").append(message);
  text.append(" [").append(condition).append("]");
  throw InvariantError(text);
}

}  // namespace kvstow
