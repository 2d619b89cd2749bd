"""One look for all figures: a colour and a marker per system, the same bytes every time."""

import io
import math

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt  # noqa: E402  (the backend comes first)
from matplotlib.lines import Line2D  # noqa: E402

# Okabe and Ito's palette: told apart by every common kind of colour vision.
BLUE, GREEN, ORANGE, VERMILION, PURPLE = "#0072B2", "#009E73", "#E69F00", "#D55E00", "#CC79A7"
SKY, INK, GREY, PALE = "#56B4E9", "#222222", "#8A8A8A", "#D9D9D9"

SYSTEMS = {  # name: (label, colour, marker)
    "vllm": ("vLLM", BLUE, "o"),
    "orca-oracle": ("Orca (Oracle)", GREEN, "^"),
    "orca-pow2": ("Orca (Pow2)", ORANGE, "s"),
    "orca-max": ("Orca (Max)", VERMILION, "D"),
    "faster-transformer": ("FasterTransformer", PURPLE, "v"),
}

plt.rcParams.update(
    {
        "font.family": "DejaVu Sans",
        "font.size": 9,
        "axes.titlesize": 9.5,
        "axes.titleweight": "bold",
        "axes.titlelocation": "left",
        "axes.labelsize": 9,
        "axes.labelcolor": INK,
        "axes.edgecolor": GREY,
        "axes.linewidth": 0.8,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.grid": True,
        "axes.axisbelow": True,
        "grid.color": "#E8E8E8",
        "grid.linewidth": 0.7,
        "xtick.color": INK,
        "ytick.color": INK,
        "xtick.labelsize": 8,
        "ytick.labelsize": 8,
        "lines.linewidth": 1.6,
        "lines.markersize": 4.5,
        "legend.frameon": False,
        "legend.fontsize": 8.5,
        "figure.dpi": 100,
        "svg.fonttype": "path",
        "svg.hashsalt": "kvstow",  # ids from content, not from chance
    }
)


def label(system):
    return SYSTEMS.get(system, (system,))[0]


def colour(system):
    return SYSTEMS.get(system, (system, INK))[1]


def marker(system):
    return SYSTEMS.get(system, (system, INK, "x"))[2]


def ordered(systems):
    """Known systems in the order of SYSTEMS, unknown ones behind them."""
    known = [s for s in SYSTEMS if s in systems]
    return known + sorted(s for s in systems if s not in SYSTEMS)


def line_key(systems, with_paper=True):
    """Legend handles: a line per system, and what hollow markers mean."""
    handles = [Line2D([], [], color=colour(s), label=label(s)) for s in systems]
    if with_paper:
        handles.append(
            Line2D(
                [],
                [],
                color=GREY,
                marker="o",
                markerfacecolor="white",
                linestyle=":",
                linewidth=0.9,
                label="paper (digitised)",
            )
        )
    return handles


def finish(figure, handles, **layout):
    """Lays the panels out under a legend of one row, or as many as the width needs."""
    width, height = figure.get_size_inches()
    entries = [0.42 + 0.068 * len(handle.get_label()) for handle in handles]  # inches
    rows = 1  # of columns that are each as wide as their longest entry
    while sum(max(entries[i : i + rows]) for i in range(0, len(entries), rows)) > width:
        rows += 1
    figure.legend(
        handles=handles,
        loc="upper center",
        ncol=math.ceil(len(handles) / rows),
        bbox_to_anchor=(0.5, 1.0),
        columnspacing=1.1,
        handlelength=1.6,
        handletextpad=0.5,
    )
    figure.tight_layout(rect=(0, 0, 1, 1 - (0.2 + 0.18 * rows) / height), **layout)


def paper_points(axis, x, y, system):
    """The paper's points: hollow markers on a dotted line in the system's colour."""
    axis.plot(
        x,
        y,
        linestyle=":",
        linewidth=0.9,
        color=colour(system),
        marker=marker(system),
        markerfacecolor="white",
        markeredgewidth=1.1,
        clip_on=True,
        zorder=3,
    )


def our_line(axis, curve, system, name, **line):
    """Our seed mean and its 95 % band."""
    low, high = curve.band(name)
    axis.fill_between(curve.rates, low, high, color=colour(system), alpha=0.18, linewidth=0)
    axis.plot(curve.rates, curve.mean, color=colour(system), **line)


def render(figure):
    """(PNG bytes, SVG bytes), free of dates and versions; closes the figure."""
    png, svg = io.BytesIO(), io.BytesIO()
    figure.savefig(png, format="png", dpi=150, metadata={"Software": None})
    figure.savefig(svg, format="svg", metadata={"Date": None, "Creator": None})
    plt.close(figure)
    return png.getvalue(), svg.getvalue()
