"""Normalised latency against the request rate: Figures 12, 14, 16, 17 and the real traces."""

import matplotlib.pyplot as plt

from analysis import measures, paper, stats
from analysis.figures import style
from analysis.results import JUDGED_LAW, values_of

CEILING = 1.0  # s/token, where the paper's plots stop
# Fig. 17: with which probability the artifact's scripts start a new conversation.
ARTIFACT_P_NEW = {"vllm": 0.5, "orca": 0.1}
THRESHOLDS = (0.2, 0.5)  # s/token, at which capacities are read


def fig12(results):
    """The six panels; a panel without runs shows the paper's points alone."""
    if not results.select("12", law=JUDGED_LAW):
        return None
    figure, axes = plt.subplots(2, 3, figsize=(10.5, 6.0))
    for axis, (panel, (model, dataset)) in zip(axes.flat, paper.PANELS.items()):
        end = 0.0
        for system in style.SYSTEMS:
            x, y = paper.series(
                "fig12_normalized_latency",
                "normalized_latency_s_per_token",
                panel=panel,
                system=system,
            )
            style.paper_points(axis, x, y, system)
            end = max([end, *x])
            curve = measures.fig12_curve(results, panel, system)
            if curve is not None:
                style.our_line(axis, curve, system, f"fig12/{panel}/{system}")
        _frame(axis, f"({panel})  {_model(model)}, {_dataset(dataset)}", 1.06 * end)
    _finish(figure, axes, style.line_key(style.SYSTEMS))
    return figure


def fig14(results):
    """Parallel sampling above, beam search below, widths 2, 4, 6."""
    if not results.select("14", law=JUDGED_LAW):
        return None
    figure, axes = plt.subplots(2, 3, figsize=(10.5, 6.0))
    names = {"parallel": "parallel sampling", "beam": "beam search"}
    for row, (decoding, name) in zip(axes, names.items()):
        for axis, width in zip(row, (2, 4, 6)):
            curves = _curves(results, "14", decoding=decoding, width=width)
            paper_rows = [
                r
                for r in paper.table("fig14_decoding_n6")
                if r["decoding"] == decoding and r["width"] == str(width)
            ]
            _panel(axis, f"fig14/{decoding}/{width}", curves, paper_rows)
            axis.set_title(f"{name}, width {width}")
    _finish(figure, axes, style.line_key(_systems(results, "14")))
    return figure


def fig16(results):
    """One and five examples in the shared prefix."""
    if not results.select("16", law=JUDGED_LAW):
        return None
    figure, axes = plt.subplots(1, 2, figsize=(7.6, 3.5))
    for axis, (prefix, tokens) in zip(axes, (("1-shot", 80), ("5-shot", 341))):
        paper_rows = [r for r in paper.table("fig16_shared_prefix_5shot") if r["prefix"] == prefix]
        _panel(axis, f"fig16/{prefix}", _curves(results, "16", prefix=prefix), paper_rows)
        axis.set_title(f"{prefix} prefix, {tokens} tokens")
    _finish(figure, axes, style.line_key(_systems(results, "16")))
    return figure


def fig17(results):
    """The chatbot with one start probability for all, and the artifact's unequal ones where run."""
    if not results.select("17", law=JUDGED_LAW):
        return None
    equal = measures.fig17_equal_p_new(results)
    title = "chatbot" if equal is None else f"every system starts with {equal:g}"
    panels = {title: _curves(results, "17", p_new=equal)}
    artifact = {
        system: curve
        for kind, p_new in ARTIFACT_P_NEW.items()
        for system, curve in _curves(results, "17", p_new=p_new).items()
        if system.startswith(kind)
    }
    if {"vllm", "orca-oracle"} <= set(artifact):
        panels["as in the artifact: vLLM 0.5, Orca 0.1"] = artifact
    width = 7.6 if len(panels) > 1 else 5.6
    figure, axes = plt.subplots(1, len(panels), figsize=(width, 3.5), squeeze=False)
    for axis, (title, curves) in zip(axes[0], panels.items()):
        _panel(axis, f"fig17/{title}", curves, paper.table("fig17_chatbot"))
        axis.set_title(title)
    _finish(figure, axes, style.line_key(_systems(results, "17")))
    return figure


def real(results):
    """Latency on real traces: per trace, the systems at shares of their own capacity."""
    runs = results.select("real", law=JUDGED_LAW)
    if not runs:
        return None
    datasets = values_of(runs, "dataset")
    systems = style.ordered(values_of(runs, "system"))
    figure, axes = plt.subplots(
        1, len(datasets), figsize=(1.6 + 4.2 * len(datasets), 3.5), squeeze=False
    )
    for axis, dataset in zip(axes[0], datasets):
        for system in systems:
            curve = measures.latency_curve(results, "real", dataset=dataset, system=system)
            if curve is not None:
                style.our_line(
                    axis, curve, system, f"real/{dataset}/{system}", marker=style.marker(system)
                )
        axis.set_title(_dataset(dataset))
        axis.set_xlabel("request rate (req/s)")
        axis.set_yscale("log")
    _finish(figure, axes, style.line_key(systems, with_paper=False))
    return figure


def _curves(results, name, **axes):
    """{system: our curve} of one panel."""
    found = {}
    for system in style.ordered(values_of(results.select(name, law=JUDGED_LAW, **axes), "system")):
        curve = measures.latency_curve(results, name, system=system, **axes)
        if curve is not None:
            found[system] = curve
    return found


def _panel(axis, name, curves, paper_rows):
    """Our curves and the paper's points of one panel."""
    end = 0.0
    for system in style.SYSTEMS:
        points = [r for r in paper_rows if r["system"] == system]
        x = [float(r["request_rate_per_s"]) for r in points]
        y = [float(r["normalized_latency_s_per_token"]) for r in points]
        style.paper_points(axis, x, y, system)
        end = max([end, *x])
    for system, curve in curves.items():
        style.our_line(axis, curve, system, f"{name}/{system}")
        end = max(end, _visible_end(curve))
    _frame(axis, "", 1.06 * end)


def _visible_end(curve):
    """The rate at which our curve leaves the plot, or its last."""
    return float(min(stats.crossings(curve.rates, curve.mean, CEILING)[0], curve.rates[-1]))


def _frame(axis, title, end):
    axis.set_title(title)
    axis.set_ylim(0, CEILING)
    axis.set_xlim(0, end or 1)
    for threshold in THRESHOLDS:
        axis.axhline(threshold, color=style.GREY, linewidth=0.6, linestyle=(0, (6, 4)), zorder=1)
    axis.set_xlabel("request rate (req/s)")


def _finish(figure, axes, handles):
    for row in axes if axes.ndim == 2 else [axes]:
        row[0].set_ylabel("normalised latency (s/token)")
    style.finish(figure, handles, w_pad=1.5, h_pad=1.2)


def _systems(results, name):
    return style.ordered(values_of(results.select(name), "system"))


def _model(name):
    return name.upper().replace("LLAMA", "LLaMA")


def _dataset(name):
    return {"sharegpt": "ShareGPT", "alpaca": "Alpaca"}.get(name, name)
