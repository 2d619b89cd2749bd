#!/usr/bin/env python3
"""Keeps of `kvstow run`s on a GPU what results/h200 records.

    record_engine.py TO.json RUN_DIR... [--ceilings CEILINGS.json] [--keep] [--board NUMBER]

One entry for each row: what ran on which build, what was measured, and sums over its steps (runs that serve need
`records: true`): all of them, those of decodes, those that began in the window, and the median step of one sequence.
With ceilings (bench_kernels --benchmark_filter='large_read|gemm', from the same machine and hour) each
entry also has its floor, the time that no engine on this device can beat, in all and by the rows of a step
(floor_gap.py prints that):

    prompts  flops of the linear layers and of causal attention, at the rate of an 8192^3 product
  + decodes  K and V of the context at the rate of a large read, and for each step the larger of reading
             the weights once and the flops of its rows

With --keep, entries of TO.json for points that RUN_DIR does not have stay as they are. Boards of one kind differ (in
their memory's rate, and where their power ends): with --board a point is one of that board, each beside its own
ceilings.
"""
import argparse
import csv
import gzip
import json
import pathlib
import statistics

from recorded import measured, refuse


def records(run, key, kind):
    path = run / "records" / f"{key}.{kind}.csv"
    packed = pathlib.Path(f"{path}.gz")
    if not path.exists() and not packed.exists():
        refuse(f"{path}: not there; the experiment needs `records: true`")
    with path.open() if path.exists() else gzip.open(packed, "rt") as rows:
        return list(csv.DictReader(rows))


def linear_weights(model):
    """Parameters of the matrices that every row meets: those of the layers, then the output's."""
    hidden, width = model["hidden"], model["heads"] * model["head_dim"]
    kv = model["kv_heads"] * model["head_dim"]
    mlp = (2 if model["family"] == "opt" else 3) * hidden * model["ffn"]
    return model["layers"] * (hidden * (2 * width + 2 * kv) + mlp), hidden * model["vocab"]


def ceilings_of(path):
    """Bytes a second of a large read, flops a second of the product."""
    rows = measured(path, "benchmarks")["benchmarks"]
    read = [r["gb_per_s"] for r in rows if r["name"].startswith("large_read")]
    gemm = [r["tflop_per_s"] for r in rows if r["name"].startswith("gemm")]
    if not read or not gemm:
        refuse(f"{path}: no rows of large_read and of gemm")
    return max(read) * 1e9, max(gemm) * 1e12


def rows_of(step):
    """How the floor's table groups steps: prompts, or decodes by so many rows."""
    if int(step["prompt_tokens"]):
        return "prompts"
    last = max(1, -(-int(step["decode_tokens"]) // 32)) * 32
    return f"{last - 31}-{last}"


def floor(row, steps, requests, read, gemm):
    """Per group of steps their number, what they took and what none could beat, in seconds."""
    model = row["config"]["model"]
    layers, output = linear_weights(model)
    element = model["element_bytes"]
    kv_bytes = 2 * model["layers"] * model["kv_heads"] * model["head_dim"] * element
    attention = 4 * model["layers"] * model["heads"] * model["head_dim"]  # flops of a pair of tokens
    groups = {}
    for step in steps:
        rows = int(step["decode_tokens"])
        compute = 2 * (layers + output) * rows / gemm
        alone = int(step["prompt_tokens"]) == 0
        group = groups.setdefault(rows_of(step), {"steps": 0, "time_s": 0, "floor_s": 0})
        group["steps"] += 1
        group["time_s"] += float(step["elapsed_s"])
        group["floor_s"] += int(step["kv_read_tokens"]) * kv_bytes / read
        group["floor_s"] += max((layers + output) * element / read, compute) if alone else compute
    for request in requests:
        prompt = int(request["prompt_tokens"])
        flops = 2 * layers * prompt + 2 * output + attention * prompt * prompt / 2
        group = groups.setdefault("prompts", {"steps": 0, "time_s": 0, "floor_s": 0})
        group["floor_s"] += flops / gemm
    return groups


def sums(row, steps):
    decodes = [s for s in steps if int(s["prompt_tokens"]) == 0]
    alone = [float(s["elapsed_s"]) for s in decodes if int(s["sequences"]) == 1]
    begin, end = row["config"]["window_s"]
    inside = [s for s in steps if begin <= float(s["begin_s"]) < end]
    return {
        "steps": len(steps),
        "decode_steps": len(decodes),
        "kv_read_tokens": sum(int(s["kv_read_tokens"]) for s in steps),
        "step_time_s": sum(float(s["elapsed_s"]) for s in steps),
        "decode_step_time_s": sum(float(s["elapsed_s"]) for s in decodes),
        "one_sequence_steps": len(alone),
        "one_sequence_step_s": statistics.median(alone) if alone else None,
        # Every running sequence draws a token in every step.
        "window_tokens": sum(int(s["sequences"]) for s in inside),
        "window_s": end - begin,
    }


def entry_of(run, row, ceilings, board):
    entry = {
        "experiment": row["experiment"],
        "board": board,
        "panel": row["point"]["panel"],
        "model": row["point"]["model"],
        "system": row["point"]["system"],
        "executor": row["point"]["executor"],
        "dataset": row["point"]["dataset"],
        "law": row["config"]["law"],
        "seed": row["point"]["seed"],
        "request_rate_per_s": row["point"].get("request_rate_per_s"),
        "block_tokens": row["point"]["block_tokens"],
        "pool_bytes": row["config"]["pool_bytes"],
        "deterministic": row["config"].get("deterministic", False),
        "build": row["build"],
        "trace": row["trace"],
        "date": row["timing"]["date"],
        "metrics": row["metrics"],
    }
    if row["config"]["kind"] != "serve":
        return entry
    steps = records(run, row["key"], "steps")
    entry |= {"device_times": row.get("device_times")} | sums(row, steps)
    if ceilings and row["point"]["executor"] == "cuda":
        entry["by_rows"] = floor(row, steps, records(run, row["key"], "requests"), *ceilings)
        entry["floor_s"] = sum(group["floor_s"] for group in entry["by_rows"].values())
        entry["read_bytes_per_s"], entry["gemm_flops_per_s"] = ceilings
    return entry


def rounded(value):
    if isinstance(value, float):
        return float(f"{value:.6g}")
    if isinstance(value, dict):
        return {k: rounded(v) for k, v in value.items()}
    return value


# What an entry measures.
POINT = ("experiment", "panel", "model", "system", "executor", "board", "seed", "block_tokens", "request_rate_per_s")


def point_of(entry):
    return tuple(entry.get(key, 0) for key in POINT)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("to", type=pathlib.Path)
    parser.add_argument("run", nargs="+", type=pathlib.Path)
    parser.add_argument("--ceilings", type=pathlib.Path)
    parser.add_argument("--keep", action="store_true")
    parser.add_argument("--board", type=int, default=0)
    args = parser.parse_args()
    ceilings = ceilings_of(args.ceilings) if args.ceilings else None
    entries = []
    for run in args.run:
        rows = sorted((run / "rows").glob("*.json"))
        if not rows:
            parser.error(f"{run}: no rows of `kvstow run` there")
        for path in rows:
            entries.append(rounded(entry_of(run, measured(path), ceilings, args.board)))
    if args.keep:
        again = {point_of(e) for e in entries}
        entries += [e for e in measured(args.to, "runs")["runs"] if point_of(e) not in again]
    entries.sort(key=lambda e: (*point_of(e)[:-1], e["request_rate_per_s"] or 0))
    text = ",\n".join("  " + json.dumps(e) for e in entries)
    args.to.write_text('{"runs": [\n' + text + "\n]}\n")


if __name__ == "__main__":
    main()
