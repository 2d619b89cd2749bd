"""Fig. 15: KV memory saved by sharing."""

import matplotlib.pyplot as plt
from matplotlib.patches import Patch

from analysis import measures, paper
from analysis.figures import style
from analysis.results import JUDGED_LAW

# The text's ranges over the widths for ShareGPT, percent.
SHAREGPT_RANGE = {"parallel": (16.2, 30.5), "beam": (44.3, 66.3)}
COLOUR = {"parallel": style.SKY, "beam": style.BLUE}
WIDTHS = (2, 4, 6)


def fig15(results):
    """Bars are ours; diamonds are the paper's printed values, shaded bands its ranges."""
    if not results.select("15", law=JUDGED_LAW):
        return None
    figure, axes = plt.subplots(1, 2, figsize=(7.6, 3.5), sharey=True)
    printed = {
        (r["decoding"], int(r["width"])): float(r["saving_percent"])
        for r in paper.table("fig15_sharing_saving_percent")
    }
    for axis, (dataset, title) in zip(axes, (("alpaca", "Alpaca"), ("sharegpt", "ShareGPT"))):
        for side, decoding in ((-0.2, "parallel"), (0.2, "beam")):
            if dataset == "sharegpt":
                axis.axhspan(
                    *SHAREGPT_RANGE[decoding], color=COLOUR[decoding], alpha=0.15, linewidth=0
                )
            for index, width in enumerate(WIDTHS):
                ours = measures.measure(results, f"fig15/{dataset}/{decoding}/{width}")
                if ours.ok:
                    axis.bar(index + side, ours.value, 0.36, color=COLOUR[decoding])
                    axis.text(
                        index + side,
                        1.5,
                        f"{ours.value:.1f}",
                        ha="center",
                        fontsize=7.5,
                        color="white" if decoding == "beam" else style.INK,
                    )
                if dataset == "alpaca":
                    axis.plot(
                        index + side,
                        printed[decoding, width],
                        marker="D",
                        color="white",
                        markeredgecolor=style.INK,
                        markersize=6,
                        zorder=4,
                    )
        axis.set_xticks(range(len(WIDTHS)), [f"width {w}" for w in WIDTHS])
        axis.grid(axis="x", visible=False)
        axis.set_title(title)
    axes[0].set_ylabel("blocks saved (%)")
    handles = [
        Patch(facecolor=COLOUR["parallel"], label="parallel sampling"),
        Patch(facecolor=COLOUR["beam"], label="beam search"),
        plt.Line2D(
            [],
            [],
            marker="D",
            color="white",
            markeredgecolor=style.INK,
            markersize=6,
            label="paper",
        ),
        Patch(facecolor=COLOUR["beam"], alpha=0.15, label="paper's range"),
    ]
    style.finish(figure, handles)
    return figure
