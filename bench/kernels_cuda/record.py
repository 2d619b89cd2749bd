#!/usr/bin/env python3
"""Keeps of Google Benchmark's JSON what a recorded row needs: record.py from.json to.json

Drops the host's name and paths and what is constant in every row. Refuses rows of decode cells some of which were
measured while launches had the one of their two lengths and some while they had the other (kernels/README.md,
"Plain reads"): their ratios do not compare.
"""
import json
import pathlib
import sys

from recorded import measured, refuse

CONTEXT = ("date", "commit", "device", "multiprocessors", "cuda_driver", "cuda_toolkit")
DROPPED = ("family_index", "per_family_instance_index", "run_name", "run_type", "repetitions",
           "repetition_index", "threads", "iterations", "real_time", "cpu_time", "time_unit")

if len(sys.argv) != 3:
    refuse(__doc__.splitlines()[0])
source = measured(sys.argv[1], "context", "benchmarks")
rows = [{k: round(v, 6) if isinstance(v, float) else v for k, v in row.items() if k not in DROPPED}
        for row in source["benchmarks"]]
empty = [row[k] for row in rows for k in ("read_empty_us", "empty_us") if k in row]
if empty and max(empty) > 1.15 * min(empty):
    refuse(f"{sys.argv[1]}: launches of two lengths, {min(empty):.2f} and {max(empty):.2f} us: measure again")
context = {k: source["context"][k] for k in CONTEXT if k in source["context"]}
lines = ",\n".join("    " + json.dumps(row) for row in rows)
pathlib.Path(sys.argv[2]).write_text(
    '{\n  "context": ' + json.dumps(context) + ',\n  "benchmarks": [\n' + lines + "\n  ]\n}\n")
