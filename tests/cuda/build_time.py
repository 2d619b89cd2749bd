#!/usr/bin/env python3
"""How long the CUDA part of the build takes: kernels, their tests and benchmarks, from nothing.

    tests/cuda/build_time.py        prints a CSV: the processor's time (other work on the machine does
                                    not count) and the wall clock's, with as many jobs as cores
"""
import os
import pathlib
import resource
import subprocess
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]
OURS = ("kernels/cuda/", "bench/kernels_cuda/", "tests/cuda/CMakeFiles/cuda_kernels_test")


def processor_seconds():
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def main():
    with tempfile.TemporaryDirectory() as build:
        environment = {**os.environ, "CCACHE_DISABLE": "1"}

        def run(*command):
            subprocess.run(command, cwd=ROOT, env=environment, check=True, stdout=subprocess.DEVNULL)

        run("cmake", "--preset", "cuda", "-B", build)
        everything = subprocess.run(("ninja", "-C", build, "-t", "targets", "all"), check=True,
                                    capture_output=True, text=True).stdout
        objects = [line.split(":")[0] for line in everything.splitlines() if ".o: " in line]
        ours = [o for o in objects if o.startswith(OURS)]
        cores = os.cpu_count()
        used, begin = processor_seconds(), time.monotonic()
        run("ninja", "-C", build, "-j", str(cores), *ours)
        print("cores,objects,processor_seconds,wall_seconds")
        print(f"{cores},{len(ours)},{processor_seconds() - used:.1f},{time.monotonic() - begin:.1f}")


if __name__ == "__main__":
    main()
