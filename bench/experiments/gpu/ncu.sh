#!/bin/sh
# ncu.sh KVSTOW OUT: Nsight Compute over the first launches of the steps that gpu/profile_launches shows:
# the beginning of a step and one layer; ncu_layer.csv has a line for each.
set -eu
kvstow=$1
out=$2
mkdir -p "$out"
rm -rf "$out/ncu.rows"
ncu --profile-from-start off --launch-count 15 --section SpeedOfLight --section Occupancy \
  --section LaunchStats --section MemoryWorkloadAnalysis --force-overwrite --export "$out/ncu" \
  "$kvstow" run gpu/profile_launches --out "$out/ncu.rows"
ncu --import "$out/ncu.ncu-rep" --csv --page details > "$out/ncu.csv"
python3 "$(dirname "$0")/ncu_table.py" "$out/ncu.csv" "$out/ncu_layer.csv"
