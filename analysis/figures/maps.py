"""Break-even maps: sharing degree x output variance x load, one heat map per baseline and load."""

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.colors import TwoSlopeNorm

from analysis.figures import style
from analysis.results import JUDGED_LAW, values_of

METRIC = "normalized_latency_s_per_token.mean"
TIE = 0.05  # within 5 % is a tie
LOG2_RANGE = (-1.0, 3.0)  # of the colours; beyond it they stay


def cells(results):
    """{(baseline, load, sharing, cv): baseline's latency over vLLM's}; means over seeds."""
    sums = {}
    for run in results.select("breakeven", law=JUDGED_LAW):
        value = run.metric(METRIC)
        if value:
            key = (
                run.get("system"),
                run.get("load"),
                run.get("sharing_degree"),
                run.get("output_cv"),
            )
            sums.setdefault(key, []).append(value)
    means = {key: float(np.mean(values)) for key, values in sums.items()}
    return {
        key: value / means[("vllm", *key[1:])]
        for key, value in means.items()
        if key[0] != "vllm" and ("vllm", *key[1:]) in means
    }


def breakeven(results):
    """A baseline's latency over vLLM's: green where paging wins, brown where it loses, "=" a tie."""
    ratio = cells(results)
    if not ratio:
        return None
    runs = results.select("breakeven", law=JUDGED_LAW)
    loads, degrees, variances = (
        values_of(runs, a) for a in ("load", "sharing_degree", "output_cv")
    )
    baselines = style.ordered({key[0] for key in ratio})
    figure, axes = plt.subplots(
        len(baselines),
        len(loads),
        squeeze=False,
        sharex=True,
        sharey=True,
        figsize=(1.6 + 2.3 * len(loads), 1.2 + 1.9 * len(baselines)),
        constrained_layout=True,
    )
    for row, baseline in zip(axes, baselines):
        for axis, load in zip(row, loads):
            grid = np.array(
                [[ratio.get((baseline, load, d, v), np.nan) for d in degrees] for v in variances]
            )
            image = axis.imshow(
                np.log2(grid),
                origin="lower",
                aspect="auto",
                cmap="BrBG",
                norm=TwoSlopeNorm(0.0, *LOG2_RANGE),
            )
            for (y, x), value in np.ndenumerate(grid):
                if np.isfinite(value):
                    tie = abs(value - 1) <= TIE
                    axis.text(
                        x,
                        y,
                        "=" if tie else f"{value:.2g}",
                        ha="center",
                        va="center",
                        fontsize=7.5,
                        color="white" if value > 4 or value < 0.6 else style.INK,
                    )
            axis.grid(False)
            axis.set_xticks(range(len(degrees)), [f"{d:g}" for d in degrees])
            axis.set_yticks(range(len(variances)), [f"{v:g}" for v in variances])
        row[0].set_ylabel(f"{style.label(baseline)}\noutput CV")
    for axis, load in zip(axes[0], loads):
        axis.set_title(f"load {load:g}")
    for axis in axes[-1]:
        axis.set_xlabel("sharing degree")
    bar = figure.colorbar(image, ax=axes, shrink=0.7, ticks=[-1, 0, 1, 2, 3], extend="both")
    bar.ax.set_yticklabels(["0.5x", "1x", "2x", "4x", "8x"])
    bar.set_label("latency, baseline / vLLM")
    return figure
