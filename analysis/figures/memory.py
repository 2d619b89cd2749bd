"""Where the pool goes and how many requests it holds: Figures 2 and 13, the ledger over time."""

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.patches import Patch

from analysis import measures, paper, stats
from analysis.figures import style
from analysis.results import JUDGED_LAW, values_of

CLASSES = {  # Fig. 2's classes: (label, colour)
    "token_states": ("token states", style.BLUE),
    "reservation": ("reservation", style.SKY),
    "internal": ("internal", style.ORANGE),
    "external_and_others": ("external and others", style.PALE),
}
LEDGER = {  # the waste ledger's classes
    "live": ("live", style.BLUE),
    "reserved": ("reserved", style.SKY),
    "internal": ("internal", style.ORANGE),
    "rounding": ("rounding", style.VERMILION),
    "cached": ("cached", style.GREEN),
    "in_transit": ("in transit", style.PURPLE),
    "free": ("free", style.PALE),
}
ORDER = ("orca-max", "orca-pow2", "orca-oracle", "vllm")


def fig2(results):
    """Two bars per system, the paper's (left, hatched) and ours."""
    if not results.select("2", law=JUDGED_LAW):
        return None
    figure, axis = plt.subplots(figsize=(7.6, 4.2))
    printed = {r["system"]: r for r in paper.table("fig2_memory_percent")}
    for index, system in enumerate(ORDER):
        theirs = [paper.number(printed[system][name]) for name in CLASSES]
        ours = [measures.measure(results, f"fig2/{system}/{name}") for name in CLASSES]
        _stack(axis, index - 0.2, theirs, hatch="////")
        _stack(axis, index + 0.2, [e.value for e in ours])
        live = ours[0]
        if live.ok and live.low is not None:
            axis.errorbar(
                index + 0.2,
                live.value,
                [[live.value - live.low], [live.high - live.value]],
                color=style.INK,
                linewidth=1,
                capsize=3,
            )
    axis.set_xticks(range(len(ORDER)), [style.label(s) for s in ORDER])
    axis.grid(axis="x", visible=False)
    axis.set_ylim(0, 100)
    axis.set_ylabel("KV pool (%)")
    handles = [Patch(facecolor=c, label=text) for text, c in CLASSES.values()]
    handles.append(
        Patch(facecolor="white", edgecolor=style.GREY, hatch="////", label="paper (left bar)")
    )
    style.finish(figure, handles)
    return figure


def _stack(axis, x, values, hatch=None):
    base = 0.0
    for value, (_, colour) in zip(values, CLASSES.values()):
        if value is None:
            continue
        axis.bar(
            x,
            value,
            0.36,
            bottom=base,
            color=colour,
            edgecolor="white",
            linewidth=0.8,
            hatch=hatch,
            alpha=0.75 if hatch else 1.0,
        )
        if value >= 4:
            axis.text(
                x,
                base + value / 2,
                f"{value:.1f}",
                ha="center",
                va="center",
                fontsize=7.5,
                color="white" if colour == style.BLUE else style.INK,
                bbox={"boxstyle": "round,pad=0.15", "linewidth": 0, "facecolor": colour},
            )
        base += value


def fig13(results):
    """Mean running requests per system, with the paper's printed numbers."""
    if not results.select("13", law=JUDGED_LAW):
        return None
    curve = batch_curve(results)
    figure, axes = plt.subplots(
        1, 3 if curve is not None else 2, figsize=(10.5 if curve is not None else 7.6, 3.4)
    )
    for axis, row in zip(axes, paper.table("fig13_batched_requests")):
        for index, system in enumerate(ORDER):
            item = f"fig13/{row['dataset']}/{system}"
            ours = measures.measure(results, item)
            theirs = float(row[system.replace("-", "_")])
            if ours.ok:
                axis.bar(index, ours.value, 0.6, color=style.colour(system))
                if ours.low is not None:
                    axis.errorbar(
                        index,
                        ours.value,
                        [[ours.value - ours.low], [ours.high - ours.value]],
                        color=style.INK,
                        linewidth=1,
                        capsize=3,
                    )
            axis.plot(
                index,
                theirs,
                marker="D",
                color="white",
                markeredgecolor=style.INK,
                markersize=6,
                linestyle="none",
                zorder=4,
            )
            top = max(theirs, ours.high or ours.value or 0.0)
            axis.annotate(
                f"{theirs:g}",
                (index, top),
                xytext=(0, 6),
                textcoords="offset points",
                ha="center",
                fontsize=7.5,
            )
        axis.set_xticks(range(len(ORDER)), [style.label(s).replace(" ", "\n") for s in ORDER])
        axis.grid(axis="x", visible=False)
        axis.margins(y=0.15)
        axis.set_ylim(bottom=0)
        name = {"sharegpt": "ShareGPT", "alpaca": "Alpaca"}[row["dataset"]]
        axis.set_title(f"{name} at {row['request_rate_per_s']} req/s")
    if curve is not None:
        _unreachable(axes[2], curve)
    axes[0].set_ylabel("batched requests")
    handle = plt.Line2D(
        [],
        [],
        marker="D",
        color="white",
        markeredgecolor=style.INK,
        markersize=6,
        label="paper (value printed)",
    )
    style.finish(figure, [handle])
    return figure


def batch_curve(results):
    """vLLM's batch over the request rate on Alpaca; None where fewer than two rates were run."""
    runs = results.select("13", law=JUDGED_LAW, dataset="alpaca", system="vllm")
    curve = stats.curve_of(runs, "batch_groups")
    return curve if curve is not None and curve.rates.size > 1 else None


def _unreachable(axis, curve):
    style.our_line(axis, curve, "vllm", "fig13/curve", marker="o")
    theirs = next(r for r in paper.table("fig13_batched_requests") if r["dataset"] == "alpaca")
    axis.plot(
        float(theirs["request_rate_per_s"]),
        float(theirs["vllm"]),
        marker="D",
        color="white",
        markeredgecolor=style.INK,
        markersize=6,
        linestyle="none",
        zorder=4,
    )
    axis.set_title("vLLM on Alpaca, by rate")
    axis.set_xlabel("request rate (req/s)")
    axis.set_ylim(bottom=0)


def ledger_over_time(results):
    """Stacked shares of the pool over time, for the runs that kept a series."""
    kept = {}
    for run in results.runs:
        series = run.raw.get("series")
        if series and series.get("time_s"):
            kept.setdefault(run.get("system"), (run, series))
    if not kept:
        return None
    systems = style.ordered(kept)
    figure, axes = plt.subplots(
        1, len(systems), figsize=(1.2 + 2.6 * len(systems), 3.2), sharey=True, squeeze=False
    )
    for axis, system in zip(axes[0], systems):
        run, series = kept[system]
        time = np.asarray(series["time_s"], dtype=float)
        stack = [
            100 * np.asarray(series.get(name, np.zeros_like(time)), dtype=float) for name in LEDGER
        ]
        axis.stackplot(time, stack, colors=[c for _, c in LEDGER.values()], linewidth=0)
        axis.set_title(style.label(system))
        axis.set_xlabel("time (s)")
        axis.set_xlim(time[0], time[-1])
        axis.set_ylim(0, 100)
    axes[0, 0].set_ylabel("KV pool (%)")
    style.finish(figure, [Patch(facecolor=c, label=t) for t, c in LEDGER.values()])
    return figure


def ledger_table(results, figure_name="2"):
    """Window means of every ledger class in percent: [(system, {class: value})]."""
    runs = results.select(figure_name, law=JUDGED_LAW)
    table = []
    for system in style.ordered(values_of(runs, "system")):
        mine = [r for r in runs if r.get("system") == system]
        shares = {}
        for name in LEDGER:
            values = [v for r in mine if (v := r.metric(f"memory.{name}")) is not None]
            shares[name] = 100 * float(np.mean(values)) if values else None
        table.append((system, shares))
    return table
