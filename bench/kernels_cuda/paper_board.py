"""Issue 6's figures that stand beside the paper's own (Kwon et al., SOSP 2023, arXiv 2309.06180), from the runs that
record_engine.py kept: engine_rates.json (Fig. 12a), engine_sharing.json (Fig. 14 and 16), engine_fig19a.json, with
cache.json for the paper's way of swapping. The paper's numbers: analysis/paper.
"""
import pathlib
import sys

from recorded import benchmarks, engine_runs

sys.path.append(str(pathlib.Path(__file__).resolve().parents[2]))
from analysis import paper  # noqa: E402

PAPER_STEP_S = 0.030  # of one sequence on its A100
SYSTEMS = ("vllm", "orca-oracle", "orca-pow2", "orca-max", "faster-transformer")


def crossing(runs, threshold):
    """The rate at which the mean normalised latency reaches the threshold, by linear interpolation."""
    points = sorted((r["request_rate_per_s"], r["metrics"]["normalized_latency_s_per_token"]["mean"]) for r in runs)
    for (x0, y0), (x1, y1) in zip(points, points[1:]):
        if y0 < threshold <= y1:
            return x0 + (x1 - x0) * (threshold - y0) / (y1 - y0)
    return None


def over(upper, lower):
    return upper / lower if upper and lower else None


def rates(board, runs, source):
    steps = [r["one_sequence_step_s"] for r in runs if r["executor"] == "cuda" and r["one_sequence_step_s"]]
    board.add("OPT-13B: step of one sequence, median of each run", "ms", "", [s * 1e3 for s in steps], source)
    step = sorted(steps)[len(steps) // 2] if steps else PAPER_STEP_S
    papers = [row for row in paper.table("fig12_capacity") if row["panel"] == "a"]
    for row in papers:
        seconds = float(row["threshold_s_per_token"])
        threshold = seconds * step / PAPER_STEP_S

        def sustained(system, executor, threshold=threshold):
            return crossing([r for r in runs if (r["system"], r["executor"]) == (system, executor)], threshold)

        # Where the paper's series begins above the threshold there is nothing to compare.
        capacity = {s: float(row[s.replace("-", "_")]) for s in SYSTEMS if row[s.replace("-", "_")]}
        name = f"open loop, OPT-13B ShareGPT, {seconds:g} s/token scaled to the step of one sequence: "
        board.add(name + "threshold", "s/token", "", [threshold if steps else None], source)
        for system in capacity:
            board.add(name + f"request rate of {system}", "1/s", "", [sustained(system, "cuda")], source)
        for system in list(capacity)[1:]:
            theirs = capacity["vllm"] / capacity[system]
            for executor, beside in (("cuda", f" (the paper: {theirs:.3g})"), ("simulated", ", simulated")):
                board.add(f"{name}vllm over {system}{beside}", "ratio", "",
                          [over(sustained("vllm", executor), sustained(system, executor))], source)


SHARING = {"parallel, 6 samples": ("Fig. 14, six samples, OPT-13B Alpaca", "14", "parallel/6"),
           "beam search, 6": ("Fig. 14, six beams, OPT-13B Alpaca", "14", "beam/6"),
           "five-shot prefix": ("Fig. 16, five-shot prefix, LLaMA-13B", "16", "5-shot")}


def sharing(board, runs, source):
    ratios = {(r["figure"], r["case"]): float(r["value"]) for r in paper.table("ratios")}

    def figure(panel, executor, of):
        values = {r["system"]: of(r) for r in runs if (r["panel"], r["executor"]) == (panel, executor)}
        return over(values.get("vllm"), values.get("orca-oracle"))

    for panel, (name, *key) in SHARING.items():
        for what, of in (("tokens per second in overload", lambda r: r["window_tokens"] / r["window_s"]),
                         ("running requests", lambda r: r["metrics"]["batch_groups"])):
            theirs = f" (the paper's request rates: {ratios[tuple(key)]:.3g})" if what.startswith("tokens") else ""
            for executor, beside in (("cuda", theirs), ("simulated", ", simulated")):
                board.add(f"{name}: {what}, vllm over orca-oracle{beside}", "ratio", "", [figure(panel, executor, of)],
                          source)


def fig19a(board, runs, cache, source):
    real = {r["block_tokens"]: r["metrics"] for r in runs if r["executor"] == "cuda"}
    theirs = {int(r["block_size"]): r for r in paper.table("fig19a_swap_recompute_256tok_ms")}
    for block in (1, 16, 256):
        name = f"Fig. 19a, 256 tokens of OPT-13B, blocks of {block}: "
        for what, key in (("recompute", "recompute_ms"), ("swap out and in", "swap_in_out_ms")):
            value = real[block][key] if block in real else None
            board.add(f"{name}{what} (the paper's A100: {theirs[block][key]})", "ms", "", [value], source)
        pair = [cache.get(f"swap_{way}/by_block/{block}") for way in ("out", "in")]
        board.add(f"{name}swap out and in, every block, layer and part a copy of its own", "ms", "",
                  [sum(p["median_us"] for p in pair) / 1e3 if all(pair) else None], "cache.json")


def beside_the_paper(board, folder):
    for name, add in (("engine_rates.json", rates), ("engine_sharing.json", sharing)):
        add(board, engine_runs(folder / name), name)
    fig19a(board, engine_runs(folder / "engine_fig19a.json"), benchmarks(folder / "cache.json"), "engine_fig19a.json")
