"""Block size and recovery: Figures 18 and 19."""

import matplotlib.pyplot as plt
import numpy as np

from analysis import measures, paper
from analysis.figures import style
from analysis.results import JUDGED_LAW, KERNEL_CURVE_LAW, values_of

SOLID, DASHED = "-", (0, (4, 2))
RECOVERY = {  # (label, colour, marker)
    "recompute": ("recompute", style.VERMILION, "s"),
    "swap_in": ("swap in", style.SKY, "^"),
    "swap_in_out": ("swap in + out", style.BLUE, "o"),
    "swap": ("swap", style.BLUE, "o"),
}
DATASETS = {"sharegpt": ("ShareGPT", style.BLUE, "o"), "alpaca": ("Alpaca", style.ORANGE, "s")}


def fig18a(results):
    """Latency of the attention kernel, block table against contiguous, where a run measured it."""
    runs = results.select("18a")
    if not runs:
        return None
    figure, axes = plt.subplots(1, 2, figsize=(7.6, 3.3), squeeze=False)
    kinds = (
        ("paged", "paged", style.BLUE, "o", "pagedattention_us"),
        ("contiguous", "contiguous", style.ORANGE, "s", "faster_transformer_us"),
    )
    for axis, batch in zip(axes[0], (8, 32)):
        for system, name, colour, marker, column in kinds:
            mine = [r for r in runs if r.get("system") == system and r.get("batch") == batch]
            contexts = values_of(mine, "context_tokens")
            times = [
                np.mean([r.metric("latency_us") for r in mine if r.get("context_tokens") == c])
                for c in contexts
            ]
            axis.plot(contexts, times, color=colour, label=name)
            x, y = paper.series("fig18a_attention_kernel", column, x="context_tokens", batch=batch)
            _hollow(axis, x, y, colour, marker)
        axis.set_title(f"batch {batch}")
        axis.set_xlabel("context (tokens)")
    axes[0, 0].set_ylabel("kernel latency (µs)")
    axes[0, 0].legend()
    figure.tight_layout()
    return figure


def fig18b(results):
    """Normalised latency against the block size: with the assumed kernel curve, and memory alone."""
    if not results.select("18b", law=JUDGED_LAW):
        return None
    figure, axis = plt.subplots(figsize=(6.2, 3.8))
    for dataset, (name, colour, marker) in DATASETS.items():
        _ours(axis, results, f"fig18b/{dataset}", colour, f"{name}, memory alone", DASHED)
        _ours(axis, results, f"fig18b/{dataset}", colour, name, law=KERNEL_CURVE_LAW)
        x, y = paper.series("fig18b_block_size", f"{dataset}_s_per_token", x="block_size")
        _hollow(axis, x, y, colour, marker)
    axis.set_yscale("log")
    axis.set_ylabel("normalised latency (s/token)")
    _block_axis(axis)
    _key(figure, axis)
    return figure


def fig19a(results):
    """Recovering 256 tokens by recomputing them or over the link."""
    if not results.select("19a", law=JUDGED_LAW):
        return None
    figure, axis = plt.subplots(figsize=(5.2, 3.6))
    for what in ("recompute", "swap_in", "swap_in_out"):
        name, colour, marker = RECOVERY[what]
        if what == "recompute":
            _ours(axis, results, "fig19a/recompute", colour, "recompute, measured", DASHED)
            _ours(axis, results, "fig19a/recompute_as_plotted", colour, "x 0.9, as plotted")
        else:
            _ours(axis, results, f"fig19a/{what}", colour, name)
        x, y = paper.series("fig19a_swap_recompute_256tok_ms", f"{what}_ms", x="block_size")
        _hollow(axis, x, y, colour, marker)
    axis.set_ylim(bottom=0)
    axis.set_ylabel("time (ms)")
    _block_axis(axis)
    _key(figure, axis)
    return figure


def fig19b(results):
    """The same choice, end to end."""
    if not results.select("19b", law=JUDGED_LAW):
        return None
    figure, axis = plt.subplots(figsize=(6.2, 3.8))
    for what in ("recompute", "swap"):
        name, colour, marker = RECOVERY[what]
        _ours(axis, results, f"fig19b/{what}", colour, f"{name}, memory alone", DASHED)
        _ours(axis, results, f"fig19b/{what}", colour, name, law=KERNEL_CURVE_LAW)
        x, y = paper.series(
            "fig19b_swap_recompute_end_to_end", f"{what}_s_per_token", x="block_size"
        )
        _hollow(axis, x, y, colour, marker)
    axis.set_yscale("log")
    axis.set_ylabel("normalised latency (s/token)")
    _block_axis(axis)
    _key(figure, axis)
    return figure


def _ours(axis, results, prefix, colour, name, line=SOLID, law=JUDGED_LAW):
    """Our estimates of prefix/BLOCK over the paper's block sizes, with their intervals."""
    blocks = [int(r["block_size"]) for r in paper.table("fig18b_block_size")]
    found = [(b, e) for b in blocks if (e := measures.measure(results, f"{prefix}/{b}", law)).ok]
    if not found:
        return
    x = [b for b, _ in found]
    axis.plot(x, [e.value for _, e in found], color=colour, label=name, linestyle=line)
    if line == DASHED:
        return
    bounds = [(e.low, e.high) if e.low is not None else (e.value, e.value) for _, e in found]
    axis.fill_between(x, *zip(*bounds), color=colour, alpha=0.15, linewidth=0)


def _hollow(axis, x, y, colour, marker):
    axis.plot(
        x,
        y,
        linestyle=":",
        linewidth=0.9,
        color=colour,
        marker=marker,
        markerfacecolor="white",
        markeredgewidth=1.1,
        zorder=3,
    )


def _block_axis(axis):
    blocks = [int(r["block_size"]) for r in paper.table("fig18b_block_size")]
    axis.set_xscale("log", base=2)
    axis.set_xticks(blocks, [str(b) for b in blocks])
    axis.minorticks_off()
    axis.set_xlabel("block size (tokens)")


def _key(figure, axis):
    handles, _ = axis.get_legend_handles_labels()
    handles.append(
        plt.Line2D(
            [],
            [],
            color=style.GREY,
            marker="o",
            markerfacecolor="white",
            linestyle=":",
            linewidth=0.9,
            label="paper (digitised)",
        )
    )
    style.finish(figure, handles)
