#!/bin/sh
# sanitize.sh CUDA_KERNELS_TEST: compute-sanitizer's four tools over some 40 small shapes of every
# kernel, all at once (each run is mostly one busy core), a CSV row for each. Exit 1 where a tool finds
# something or does not finish. Needs a GPU.
#
# racecheck follows every access to shared memory, which slows the attention kernels down some
# thousandfold: it gets fewer shapes of them, and looks at no kernel of the tests themselves. synccheck
# keeps a table of the barriers it has seen, which decode's blocks fill at its usual size.
set -u
test=$1
limit=${SANITIZE_SECONDS:-300}  # for each run
logs=$(mktemp -d)
trap 'rm -rf "$logs"' EXIT
start=$(date +%s)

check() {  # TOOL NAME TESTS SHAPES [OPTION...]
  tool=$1 name=$2 tests=$3 shapes=$4
  log=$logs/$tool-$name
  shift 4
  begin=$(date +%s)
  KVSTOW_TEST_SHAPES=$shapes KVSTOW_TEST_PLANS=20 timeout "$limit" \
    compute-sanitizer --tool "$tool" --error-exitcode 1 "$@" "$test" --gtest_filter="$tests" \
    >"$log" 2>&1
  status=$?
  findings=$(sed -nE 's/.*ERROR SUMMARY: ([0-9]+) error.*/\1/p; s/.*\(([0-9]+) errors?, [0-9]+ warn.*/\1/p' \
    "$log" | head -1)
  echo "$tool,$name,${findings:-did not finish},$status,$(($(date +%s) - begin))"
  [ $status = 0 ] && return
  grep -E '^=========' "$log" | head -40 >&2
  touch "$logs/failed"
}

echo tool,tests,findings,exit,seconds
others='Museum.*:CacheOnGpu.*:*LayersOnGpu.*:SamplingOnGpu.*:BeamCandidatesOnGpu.*:*ThinProduct.ARows*:*ThinQkv.ARows*'
check racecheck decode 'DecodeAttention.AgreesWith*' 2 --kernel-regex kns=decode &
check racecheck prefill 'PrefillAttention.AgreesWith*' 2 --kernel-regex kns=prefill &
check racecheck museum 'Museum.*' 8 &
check racecheck others "${others#*:}" 8 &
for tool in memcheck synccheck initcheck; do
  barriers=
  [ $tool = synccheck ] && barriers='--num-cuda-barriers 65536'
  # initcheck does not see what cudaMemcpyBatchAsync writes.
  [ $tool = initcheck ] && others="$others:-CacheOnGpu.RandomPlansOnAStreamOfTheirOwn"
  # shellcheck disable=SC2086  # two words or none
  check $tool decode 'DecodeAttention.AgreesWith*' 8 $barriers &
  check $tool prefill 'PrefillAttention.AgreesWith*' 8 &
  check $tool others "$others" 8 &
done
wait
echo "all,all,,,$(($(date +%s) - start))"
[ ! -e "$logs/failed" ]
