"""Block size and recovery: Figures 18 and 19."""

import matplotlib.pyplot as plt

from analysis import kernels, measures, paper
from analysis.figures import style
from analysis.results import H200_CURVE_LAWS, JUDGED_LAW, KERNEL_CURVE_LAW

SOLID, DASHED, DOTTED = "-", (0, (4, 2)), (0, (1, 1.2))
RECOVERY = {  # (label, colour, marker)
    "recompute": ("recompute", style.VERMILION, "s"),
    "swap_in": ("swap in", style.SKY, "^"),
    "swap_in_out": ("swap in + out", style.BLUE, "o"),
    "swap": ("swap", style.BLUE, "o"),
}
DATASETS = {"sharegpt": ("ShareGPT", style.BLUE, "o"), "alpaca": ("Alpaca", style.ORANGE, "s")}


BODIES = {  # of the recorded kernel rows: (label, colour, marker, the paper's column)
    "paper-2023": ("paper-2023", style.BLUE, "o", "pagedattention_us"),
    "faster-transformer": ("FasterTransformer's", style.ORANGE, "s", "faster_transformer_us"),
    "ours": ("ours", style.GREEN, "^", None),
}


def fig18a(_results):
    """The attention kernels of 2023 and ours on a recorded GPU, and their time over the block size."""
    if not kernels.device():
        return None
    figure, axes = plt.subplots(1, 3, figsize=(10.6, 3.4))
    for axis, batch in zip(axes, kernels.BATCHES):
        for body, (name, colour, marker, column) in BODIES.items():
            axis.plot(kernels.CONTEXTS, kernels.latencies(body, batch), color=colour, label=name)
            if column:
                x, y = paper.series(
                    "fig18a_attention_kernel", column, x="context_tokens", batch=batch
                )
                _hollow(axis, x, y, colour, marker)
        axis.set_title(f"batch {batch}, {kernels.device()}")
        axis.set_xlabel("context (tokens)")
        axis.set_ylabel("kernel latency (µs)")
        axis.set_xticks(kernels.CONTEXTS)
        axis.set_ylim(bottom=0)
    axis = axes[2]
    for body in ("paper-2023", "ours"):
        name, colour, _, _ = BODIES[body]
        for dataset, line, rows in (("sharegpt", SOLID, "32 x 512"), ("alpaca", DASHED, "128 x 64")):
            curve = kernels.block_curve(body, dataset)
            axis.plot(list(curve), list(curve.values()), color=colour, linestyle=line, label=f"{name}, {rows}")
    curve = kernels.assumed_curve()
    axis.plot(list(curve), list(curve.values()), color=style.GREY, linestyle=":", label="assumed for the A100")
    axis.set_title("over the block size")
    axis.set_ylabel("time / time with blocks of 16")
    axis.set_ylim(0, 6)
    axis.legend()
    _block_axis(axis)
    _key(figure, axes[0])
    return figure


def fig18b(results):
    """Normalised latency against the block size: with the assumed kernel curve, with the one measured
    on an H200, and memory alone."""
    if not results.select("18b", law=JUDGED_LAW):
        return None
    figure, axis = plt.subplots(figsize=(6.2, 3.8))
    for dataset, (name, colour, marker) in DATASETS.items():
        _ours(axis, results, f"fig18b/{dataset}", colour, f"{name}, memory alone", DASHED)
        _ours(axis, results, f"fig18b/{dataset}", colour, name, law=KERNEL_CURVE_LAW)
        measured = H200_CURVE_LAWS[dataset]
        _ours(axis, results, f"fig18b/{dataset}", colour, f"{name}, H200 curve", DOTTED, measured)
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
    if line != SOLID:
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
