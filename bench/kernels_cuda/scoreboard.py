#!/usr/bin/env python3
"""Writes results/h200/scoreboard.csv from the recorded rows beside it, and kernel_block_curve.yaml.

    bench/kernels_cuda/scoreboard.py results/h200

Rows: decode-1.json, decode-2.json, decode-3.json (bench_kernels in three processes),
floors.json (launch floors, ceilings, both maps in pairs), prefill.json, cache.json and museum.json
(the kernels of 2023 beside ours), affine.json (kernels that only an affine map allows), tests.csv
(cuda_kernels_test, kept by record_tests.py), sanitize.csv and build.csv (what tests/cuda/sanitize.sh and
build_time.py print), logits.csv (against transformers, tests/cuda/hf/compare_logits.py). A cell is the
median of the three processes; low and high are the smallest and largest of the figure over them. Cells
that were not recorded make a figure "not measured" rather than better.

anchors_decode_h200.csv: the best existing paged kernels on one H200 (FlashInfer, FlashAttention-3,
TensorRT-LLM XQA, vLLM v1) as a ratio to a plain read of the same bytes, measured once in the same
kind of chain; best_over_read is what carries over between machines. anchors_prefill_h200.csv: TFLOP/s of
FlashInfer (FA2) and FlashAttention-3, paged, where an 8192^3 product ran at 788; their share of it
is what carries over.
"""
import csv
import math
import pathlib
import statistics
import sys

import engine_board
from recorded import benchmarks, table

MODELS = {"opt-13b": 1.09, "llama-3-8b": 1.20, "qwen3-0.6b": 1.20}
FIRST = {"opt-13b": 1.12, "llama-3-8b": 1.28, "qwen3-0.6b": 1.25}


def geomean(values):
    return math.exp(statistics.fmean(math.log(v) for v in values))


def spread(values):
    return max(values) / min(values)


class Board:
    def __init__(self):
        self.issue = 5
        self.lines = []

    def add(self, item, unit, target, values, source):
        """values: the figure by process (or one), None where a cell is missing."""
        values = list(values)
        if not values or any(v is None for v in values):
            measured = low = high = "not measured"
        else:
            measured, low, high = (f"{v:.4g}" for v in (statistics.median(values), min(values), max(values)))
        self.lines.append([self.issue, item, unit, target, measured, low, high, source])


def decode(board, runs, anchors):
    def figure(run, names, of, fold):
        cells = [run.get(n) for n in names]
        values = [c and of(n, c) for n, c in zip(names, cells)]
        return None if None in values else fold(values)

    def ratio(_, row):
        return row["over_read"]

    source = "decode-1.json decode-2.json decode-3.json"
    for model in MODELS:
        names = [n for n in anchors if n.startswith(f"decode/{model}/")]
        for target in (FIRST[model], MODELS[model]):
            board.add(f"decode {model}: time over plain read, geometric mean of 25 cells", "ratio",
                      f"<={target:.2f}", [figure(r, names, ratio, geomean) for r in runs], source)
        board.add(f"decode {model}: time over the anchors' column of plain reads, geometric mean",
                  "ratio", f"<={FIRST[model]:.2f}",
                  [figure(r, names, lambda n, c: c["median_us"] / anchors[n]["read_same_bytes_us"],
                          geomean) for r in runs], source)
    board.add("decode: largest ratio to the best existing kernel, 75 cells", "ratio", "<=1.05",
              [figure(r, list(anchors), lambda n, c: c["over_read"] / anchors[n]["best_over_read"], max)
               for r in runs], source)
    names = [n.replace("opt-13b", "group-8") for n in anchors if "opt-13b" in n]
    board.add("decode group of 8: time over plain read, geometric mean of 25 cells", "ratio",
              "<=1.75", [figure(r, names, ratio, geomean) for r in runs], source)
    for shape, targets in (("opt-13b", (1.10, 1.25)), ("llama-3-8b", (1.10, 1.25)),
                           ("group-8", (1.40, 2.1))):
        for batch, target in zip((256, 32), targets):
            board.add(f"decode ragged 64-1984, {shape}, {batch} rows: time over plain read", "ratio",
                      f"<={target:.2f}",
                      [figure(r, [f"decode_ragged/{shape}/{batch}"], ratio, max) for r in runs], source)
    board.add("decode ragged 100-1500 (as in nano-vLLM's benchmark), qwen3-0.6b, 256 rows: time over plain read",
              "ratio", "", [figure(r, ["decode_ragged_100_1500/qwen3-0.6b/256"], ratio, max) for r in runs], source)
    board.add("decode plan of 256 rows, qwen3-0.6b", "us", "",
              [figure(r, ["decode_plan/qwen3-0.6b/256"], lambda n, c: c["median_us"], max) for r in runs], source)
    board.add("plain reads: largest deviation from the anchors' column", "ratio", "<=0.03",
              [figure(r, list(anchors),
                      lambda n, c: abs(c["read_us"] / anchors[n]["read_same_bytes_us"] - 1), max)
               for r in runs], source)
    # Launches have two lengths: which one the reads had, and that all had the same.
    board.add("plain reads: an empty launch beside them, longest of 75 cells", "us", "",
              [figure(r, list(anchors), lambda n, c: c.get("read_empty_us"), max) for r in runs], source)
    board.add("plain reads: an empty launch beside them, longest over shortest", "ratio", "<=1.1",
              [figure(r, list(anchors), lambda n, c: c.get("read_empty_us"), spread) for r in runs], source)
    board.add("decode: largest relative L2 against double precision (f16)", "ratio", "<=7e-4",
              [figure(r, list(anchors), lambda n, c: c["relative_l2"], max) for r in runs], source)


def floors(board, rows):
    source = "floors.json"
    reads = [rows[n]["gb_per_s"] for n in rows if n.startswith("large_read/")]
    board.add("plain read of 4.5 GB", "GB/s", ">=4550", reads or [None], source)
    for shape in (*MODELS, "group-8"):
        cells = [r for n, r in rows.items() if n.startswith(f"decode_map_price/{shape}/")]
        for large, mean, worst in ((True, 1.01, 1.03), (False, 1.03, 1.05)):
            some = [c["table_over_affine"] for c in cells if (c["bytes"] >= 10e6) == large]
            where = "from 10 MB" if large else "below 10 MB"
            board.add(f"block table over affine map, {shape}, {where}: geometric mean", "ratio",
                      f"<={mean:.2f}", [geomean(some)] if some else [None], source)
            board.add(f"block table over affine map, {shape}, {where}: largest cell", "ratio",
                      f"<={worst:.2f}", [max(some)] if some else [None], source)
            in_order = [c.get("in_order_over_affine") for c in cells if (c["bytes"] >= 10e6) == large]
            board.add(f"block table whose blocks lie in order over affine map, {shape}, {where}: geometric mean",
                      "ratio", "", [geomean(in_order)] if in_order and all(in_order) else [None], source)
        # What the memory itself takes for pages in random order.
        reads = [c.get("page_read_over_in_order") for c in cells if c["bytes"] >= 10e6]
        for what, fold in (("geometric mean", geomean), ("largest cell", max)):
            board.add(f"plain read of pages in random order over in order, {shape}, from 10 MB: {what}",
                      "ratio", "", [fold(reads)] if reads and all(reads) else [None], source)


def prefill(board, rows, anchors):
    source = "prefill.json"
    for kernel, targets in (("fa2", (">=1", None)), ("fa3", (">=1", ">=0.92"))):
        for family, suffix in (("prefill", ""), ("prefill_full_dependency", ", full dependency")):
            shares = []
            for a in anchors:
                cell = rows.get(f"{family}/{a['model']}/{a['cell']}")
                shares.append(cell and cell["of_gemm"] / (float(a[f"{kernel}_paged_tflop_per_s"]) / 788))
            missing = any(s is None for s in shares)
            for name, target, fold in (("geometric mean of 12 cells", targets[0], geomean),
                                       ("smallest cell", targets[1], min)):
                if target:
                    board.add(f"prefill: share of the matrix product's rate over {kernel.upper()} paged's, "
                              f"{name}{suffix}", "ratio", target, [None] if missing else [fold(shares)], source)
    cells = [r["table_over_affine"] for n, r in rows.items() if n.startswith("prefill/")]
    board.add("prefill: block table over affine map, largest of 12 cells", "ratio", "<=1.04",
              [max(cells)] if len(cells) == len(anchors) else [None], source)


def cache(board, rows):
    source = "cache.json"
    ceilings = [rows[n]["gb_per_s"] for n in ("plain_copy/2048MB", "large_copy") if n in rows]
    for kernel in ("write_kv", "copy_plan", "gather"):
        cells = [r for n, r in rows.items() if n.startswith(kernel + "/")]
        some = [r["over_copy"] for r in cells if r["bytes"] >= 2 << 20]
        board.add(f"{kernel} over a plain copy of the same bytes, largest cell from 1 MB", "ratio",
                  "<=1.176", [max(some)] if some else [None], source)
        large = [r["gb_per_s"] for r in cells if r["bytes"] >= 512 << 20]
        board.add(f"{kernel} over the large-copy ceiling, smallest cell from 256 MB", "ratio",
                  ">=0.85", [min(large) / max(ceilings)] if large and len(ceilings) == 2 else [None], source)
    for direction in ("out", "in"):
        cells = [r["over_pinned_copy"] for n, r in rows.items()
                 if n.startswith(f"swap_{direction}/staged/")]
        board.add(f"swap {direction} of 256 OPT-13B tokens over one pinned copy, largest of "
                  "9 block sizes 1-256", "ratio", "<=1.15",
                  [max(cells)] if len(cells) == 9 else [None], source)


def affine_only(board, rows, floors):
    """Against our body under the affine map as floors.json has it, of another process or body than
    the pairs in the rows themselves."""
    for copies in ("tensor_boxes", "bulk"):
        cells = []
        for name, row in rows.items():
            price = floors.get(name.replace(f"affine_only/{copies}", "decode_map_price"))
            if price and name.startswith(f"affine_only/{copies}/"):
                ours = price["median_us"] / price["table_over_affine"]
                cells.append((row["bytes"], row["median_us"] / ours))
        for large in (True, False):
            some = [ratio for size, ratio in cells if (size >= 100e6) == large]
            board.add(f"affine-only kernel ({copies.replace('_', ' ')}) over our affine body, "
                      f"{'from' if large else 'below'} 100 MB: smallest cell",
                      "ratio", ">=0.98", [min(some)] if some else [None], "affine.json floors.json")


BLOCKS = (1, 2, 4, 8, 16, 32, 64, 128, 256)
# The contexts of Fig. 18a; the paper: 20-26 % slower than FasterTransformer's kernel at batch 32.
CONTEXTS = (64, 128, 256)


def museum(board, rows):
    def time(name):
        return rows[name]["median_us"] if name in rows else None

    def over(name, other, context):
        times = [time(f"fig18a/{body}/{context}") for body in (name, other)]
        return times[0] / times[1] if all(times) else None

    for batch in (8, 32):
        for name, other in (("paper-2023", "faster-transformer"), ("ours", "paper-2023"),
                            ("ours", "faster-transformer")):
            ratios = [over(name, other, f"{batch}/{c}") for c in CONTEXTS]
            board.add(f"Fig. 18a at batch {batch}: {name} over {other}, contexts 64, 128, 256, geometric mean",
                      "ratio", "", [None if None in ratios else geomean(ratios)], "museum.json")
    for name in ("paper-2023", "ours"):
        curve = block_curve(rows, name, "sharegpt")
        board.add(f"block sizes 1-256: slowest over fastest, {name}, 32 rows of 512 tokens", "ratio", "",
                  [max(curve.values()) / min(curve.values())] if curve else [None], "museum.json")


def logits(board, rows):
    """Of tests/cuda/hf/compare_logits.py."""
    for shape, dtype in (("qwen3-0.6b", "bf16"), ("llama-3-8b", "bf16"), ("opt-1.3b", "bf16"), ("opt-1.3b", "f16"),
                         ("tiny-qwen3", "f32")):
        row = next((r for r in rows if (r["shape"], r["dtype"]) == (shape, dtype)), None)

        def add(what, unit, target, key):
            board.add(f"logits, {shape} {dtype}: {what}", unit, target, [float(row[key]) if row else None],
                      "logits.csv")

        if dtype == "f32":
            add("relative L2 error from transformers in float32", "ratio", "<=1e-05", "rel_l2")
        else:
            add(f"relative L2 error from float32 over that of transformers' own {dtype} run", "ratio", "<=1.1",
                "ratio")
        add("other best tokens at positions whose two best logits are 4 rms errors apart", "positions", "<=0",
            "other_best_token")
        add("share of such positions, of 2,000", "ratio", "", "share_over_gap")


def block_curve(rows, body, dataset):
    """{block size: time over that with blocks of 16}, empty where a cell is missing."""
    times = [rows.get(f"block_size/{body}/{dataset}/{block}") for block in BLOCKS]
    if not all(times):
        return {}
    at_16 = times[BLOCKS.index(16)]["median_us"]
    return {b: round(t["median_us"] / at_16, 3) for b, t in zip(BLOCKS, times)}


def write_block_curves(path, rows):
    """In the form of a device profile's kv_time_by_block."""
    lines = ["# Written by bench/kernels_cuda/scoreboard.py from museum.json, measured on one NVIDIA H200: time",
             "# of a decode kernel (OPT-13B shape, one layer, f16) over that with blocks of 16, by block size.",
             "# sharegpt: 32 rows of 512 tokens; alpaca: 128 rows of 64."]
    for body in ("paper-2023", "ours"):
        lines.append(f"{body}:")
        for dataset in ("sharegpt", "alpaca"):
            curve = block_curve(rows, body, dataset)
            lines.append(f"  {dataset}: {{{', '.join(f'{b}: {t:g}' for b, t in curve.items())}}}")
    path.write_text("\n".join(lines) + "\n")


def kernel_tests(board, rows):
    """Of tests/cuda, kept by record_tests.py."""
    found = {(r["build"], r["test"]): dict(p.split("=") for p in r["properties"].split()) | {"result": r["result"]}
             for r in rows}

    def add(item, unit, target, build, test, key):
        row = found.get((build, test), {})
        counts = row.get("result") == "passed" or (key in ("failed", "ran") and int(row.get("ran", 0)) > 0)
        board.add(item, unit, target, [float(row[key]) if counts and key in row else None], "tests.csv")

    for kernel in ("Decode", "Prefill"):
        test = f"{kernel}Attention.AgreesWithDoublePrecisionOnRandomShapes"
        add(f"{kernel.lower()}: random shapes compared with double precision", "shapes", ">=500", "cuda", test, "shapes")
        for dtype, target in (("f16", "<=7e-4"), ("bf16", "<=3e-3")):
            add(f"{kernel.lower()}: largest relative L2 over those shapes, {dtype}", "ratio", target, "cuda", test,
                f"worst_relative_l2_{dtype}")
    add("random MemPlans, bit for bit as run in order", "plans", ">=10000", "cuda",
        "CacheOnGpu.RandomPlansMoveWhatASequentialRunMoves", "plans")
    for build in ("cuda", "cuda-sm80"):
        add(f"preset {build}: kernel tests failed", "tests", "<=0", build, "all", "failed")
        add(f"preset {build}: kernel tests run", "tests", "", build, "all", "ran")


def guards(board, sanitized, built):
    """sanitized: rows of tests/cuda/sanitize.sh; built: of tests/cuda/build_time.py."""
    counted = [r["findings"] for r in sanitized if r["tool"] != "all"]
    finished = counted and all(f.isdigit() for f in counted)
    board.add("compute-sanitizer, four tools: findings", "findings", "<=0",
              [sum(map(int, counted)) if finished else None], "sanitize.csv")
    board.add("compute-sanitizer, four tools at once", "s", "<=360",
              [float(r["seconds"]) for r in sanitized if r["tool"] == "all"], "sanitize.csv")
    board.add("CUDA part of the build on 2 cores, processor time", "s", "<=180",
              [float(r["processor_seconds"]) / 2 for r in built], "build.csv")


def main():
    folder = pathlib.Path(sys.argv[1])
    here = pathlib.Path(__file__)
    anchors = {}
    for row in table(here.with_name("anchors_decode_h200.csv")):
        name = f"decode/{row['model']}/{row['batch']}/{row['context']}"
        anchors[name] = {k: float(row[k]) for k in ("best_over_read", "read_same_bytes_us")}
    board = Board()
    decode(board, [benchmarks(folder / f"decode-{i}.json") for i in (1, 2, 3)], anchors)
    floor_rows = benchmarks(folder / "floors.json")
    floors(board, floor_rows)
    prefill(board, benchmarks(folder / "prefill.json"), table(here.with_name("anchors_prefill_h200.csv")))
    cache(board, benchmarks(folder / "cache.json"))
    affine_only(board, benchmarks(folder / "affine.json"), floor_rows)
    kernels_of_2023 = benchmarks(folder / "museum.json")
    museum(board, kernels_of_2023)
    kernel_tests(board, table(folder / "tests.csv"))
    guards(board, table(folder / "sanitize.csv"), table(folder / "build.csv"))
    board.issue = 6
    logits(board, table(folder / "logits.csv"))
    write_block_curves(folder / "kernel_block_curve.yaml", kernels_of_2023)
    engine_board.engine(board, folder)
    with (folder / "scoreboard.csv").open("w", newline="") as out:
        writer = csv.writer(out, lineterminator="\n")
        writer.writerow("issue,item,unit,target,measured,low,high,source_file".split(","))
        writer.writerows(board.lines)


if __name__ == "__main__":
    main()
