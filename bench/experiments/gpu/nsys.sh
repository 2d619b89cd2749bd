#!/bin/sh
# nsys.sh KVSTOW OUT: reports of Nsight Systems over the steps that gpu/profile and gpu/profile_launches
# show, and their tables as CSV. core/exec/cuda/PROFILING.md reads them.
set -eu
kvstow=$1
out=$2
mkdir -p "$out"
for name in profile profile_launches; do
  rm -rf "$out/$name.rows" # a point that is there already would not run
  nsys profile --capture-range=cudaProfilerApi --capture-range-end=stop --trace=cuda,nvtx \
    --sample=none --cpuctxsw=none --cuda-graph-trace=node --force-overwrite=true \
    --output="$out/$name" "$kvstow" run "gpu/$name" --out "$out/$name.rows"
  nsys stats --force-export=true --format=csv --output="$out/$name" \
    --report=nvtx_sum --report=nvtx_gpu_proj_sum --report=cuda_gpu_kern_sum --report=cuda_api_sum \
    "$out/$name.nsys-rep"
done
