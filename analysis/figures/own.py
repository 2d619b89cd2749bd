"""Any other experiment: latency and pool over the request rate, a row of panels per workload."""

import matplotlib.pyplot as plt

from analysis import stats
from analysis.figures import style
from analysis.results import values_of

# What tells workloads and settings of an experiment apart, beside system, rate and seed.
PANEL_AXES = (
    "panel",
    "model",
    "dataset",
    "decoding",
    "width",
    "prefix",
    "block_tokens",
    "preemption",
)
MEASURES = {
    "normalized_latency_s_per_token.mean": "normalised latency (s/token)",
    "memory.live": "live share of the pool",
    "batch_groups": "batched requests",
}
MOST_PANELS = 6


def panels(runs):
    """{title: runs}; the title names the axes that a system meets with more than one value."""
    by_system = {}
    for run in runs:
        by_system.setdefault(run.get("system"), []).append(run)
    varying = [
        a for a in PANEL_AXES if any(len(values_of(mine, a)) > 1 for mine in by_system.values())
    ]
    groups = {}
    for run in runs:
        parts = [_named(a, run.get(a)) for a in varying]
        title = ", ".join(dict.fromkeys(part for part in parts if part))
        groups.setdefault(title, []).append(run)
    return dict(sorted(groups.items()))


def draw(runs):
    """The figure of one experiment; None where no run reports a latency over a rate."""
    groups = {
        title: mine
        for title, mine in panels(runs).items()
        if stats.curve_of(mine, next(iter(MEASURES))) is not None
    }
    if not groups:
        return None
    shown = list(groups.items())[:MOST_PANELS]
    figure, axes = plt.subplots(
        len(shown), len(MEASURES), figsize=(10.5, 0.9 + 2.5 * len(shown)), squeeze=False
    )
    systems = style.ordered(values_of(runs, "system"))
    for row, (title, mine) in zip(axes, shown):
        for axis, (metric, name) in zip(row, MEASURES.items()):
            for system in systems:
                curve = stats.curve_of([r for r in mine if r.get("system") == system], metric)
                if curve is not None:
                    mark = {"marker": style.marker(system)}
                    style.our_line(axis, curve, system, f"{title}/{metric}/{system}", **mark)
            axis.set_ylabel(name)
            axis.set_xlim(left=0)
        row[0].set_title(title)
        row[0].set_yscale("log")
        for axis in row[1:]:
            axis.set_ylim(bottom=0)
    for axis in axes[-1]:
        axis.set_xlabel("request rate (req/s)")
    style.finish(figure, style.line_key(systems, with_paper=False), h_pad=1.2)
    return figure


def _named(axis, value):
    if axis in ("width", "block_tokens"):
        return f"{axis.replace('_', ' ')} {value:g}"
    return str(value)
