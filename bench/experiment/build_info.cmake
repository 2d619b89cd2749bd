# Run at every build: writes OUTPUT (C++) with the commit and a hash of the sources, and touches it
# only when they changed, so that nothing is rebuilt for nothing.
#   cmake -D SOURCE=... -D OUTPUT=... -D VERSION=... -D TYPE=... -D COMPILER=... -P build_info.cmake
execute_process(COMMAND git -C ${SOURCE} rev-parse --short=12 HEAD
  OUTPUT_VARIABLE commit OUTPUT_STRIP_TRAILING_WHITESPACE ERROR_QUIET RESULT_VARIABLE failed)
if(failed)
  set(commit "unknown")
else()
  execute_process(COMMAND git -C ${SOURCE} status --porcelain --untracked-files=no
    OUTPUT_VARIABLE changes ERROR_QUIET)
  if(changes)
    string(APPEND commit "-dirty")
  endif()
endif()

set(hashes "")
foreach(folder core baselines workloads kernels bench/experiment bench/registry)
  file(GLOB_RECURSE files LIST_DIRECTORIES false RELATIVE ${SOURCE}
    ${SOURCE}/${folder}/*.h ${SOURCE}/${folder}/*.cpp ${SOURCE}/${folder}/*.inc
    ${SOURCE}/${folder}/*.cu ${SOURCE}/${folder}/*.cuh ${SOURCE}/${folder}/*.csv)
  list(SORT files)
  foreach(file IN LISTS files)
    file(SHA256 ${SOURCE}/${file} hash)
    string(APPEND hashes "${file} ${hash}\n")
  endforeach()
endforeach()
string(SHA256 sources "${hashes}")
string(SUBSTRING ${sources} 0 16 sources)

file(CONFIGURE OUTPUT ${OUTPUT} @ONLY CONTENT [[
#include "bench/experiment/build_info.h"

namespace kvstow {

const BuildInfo& build_info() {
  static const BuildInfo info = {
      .version = "@VERSION@",
      .commit = "@commit@",
      .sources = "@sources@",
      .type = "@TYPE@",
      .compiler = "@COMPILER@",
  };
  return info;
}

}  // namespace kvstow
]])
