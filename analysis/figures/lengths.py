"""Fig. 11: the lengths of the two synthetic workloads."""

import matplotlib.pyplot as plt
import numpy as np

from analysis import paper
from analysis.figures import style

RANGE = {"sharegpt": (2000, 50), "alpaca": (400, 10)}  # tokens shown, bin width


def fig11(_results):
    """Histograms from the inverse CDFs the workloads draw from, with the paper's means."""
    figure, axes = plt.subplots(1, 2, figsize=(7.6, 3.2))
    for axis, means in zip(axes, paper.table("fig11_mean_lengths")):
        dataset = means["dataset"]
        end, width = RANGE[dataset]
        edges = np.arange(0, end + width, width)
        for column, colour, name in (
            ("prompt_tokens", style.BLUE, "prompt"),
            ("output_tokens", style.ORANGE, "output"),
        ):
            share = histogram(dataset, column, edges)
            axis.stairs(share / width, edges, color=colour, fill=True, alpha=0.35)
            axis.stairs(share / width, edges, color=colour, linewidth=1.2)
            mean = float(means[column])
            axis.axvline(
                mean, color=colour, linestyle="--", linewidth=1.2, label=f"{name}, mean {mean:g}"
            )
        axis.set_xlim(0, end)
        axis.set_title({"sharegpt": "ShareGPT", "alpaca": "Alpaca"}[dataset])
        axis.set_xlabel("tokens")
        axis.legend(loc="upper right")
    axes[0].set_ylabel("density (1/token)")
    figure.tight_layout(w_pad=1.5)
    return figure


def histogram(dataset, column, edges):
    """Share of requests per bin [edge, next edge), by interpolating the inverse CDF."""
    lengths, quantiles = paper.series(
        "fig11_length_quantiles", "quantile", x=column, dataset=dataset
    )
    highest = {}  # many quantiles share a short length: its CDF is the last of them
    for length, quantile in zip(lengths, quantiles):
        highest[length] = quantile
    cdf = np.interp(edges, list(highest), list(highest.values()), left=0.0, right=1.0)
    return np.diff(cdf)
