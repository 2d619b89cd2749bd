// What this program was built from: stamped into every row and part of every row's key.
#pragma once

#include <string>

namespace kvstow {

struct BuildInfo {
  std::string version;
  std::string commit;   // of the source tree, "-dirty" where it had changes; "unknown" outside git
  std::string sources;  // hash of every source file that can change a result
  std::string type;     // Release, RelWithDebInfo, ...
  std::string compiler;
};

[[nodiscard]] const BuildInfo& build_info();

}  // namespace kvstow
