"""What each scoreboard item is, measured from the runs; README.md, "Scoreboard", defines them."""

from analysis import paper, stats
from analysis.results import JUDGED_LAW

# Fig. 2's classes from the waste ledger (window means, fractions of the pool).
FIG2_CLASSES = {
    "token_states": ("memory.live",),
    "reservation": ("memory.reserved",),
    "internal": ("memory.internal",),
    "external_and_others": ("memory.rounding", "memory.cached", "memory.free"),
}
# The latency at which the sharing figures compare request rates; the paper names none.
SHARING_THRESHOLD = 0.5


def measure(results, item, law=JUDGED_LAW):
    """The Estimate of a scoreboard item ("fig13/sharegpt/vllm") from the runs of a law."""
    kind, *parts = item.split("/")
    return _MEASURES[kind](results, item, law, *parts)


def latency_curve(results, figure, law=JUDGED_LAW, **axes):
    """Mean normalised latency over the request rate, or None without runs."""
    return stats.curve_of(results.select(figure, law=law, **axes))


def fig12_curve(results, panel, system, law=JUDGED_LAW, **more):
    return latency_curve(results, "12", law, panel=panel, system=system, **more)


def true_crossing(results, panel, threshold, system, law=JUDGED_LAW):
    """Capacity over every rate that was run, the paper's and the finer ones around the crossing."""
    curve = fig12_curve(results, panel, system, law)
    if curve is None or not results.select("12", law=law, panel=panel, system=system, refined=True):
        return stats.missing("no finer rates were run")
    return stats.capacity(curve, threshold, f"true/{panel}/{threshold:g}/{system}")


def fig12_ratio(results, panel, threshold, upper, lower, law=JUDGED_LAW):
    """capacity(upper) / capacity(lower) over the paper's rates."""
    curves = [_on_paper_rates(results, panel, system, law) for system in (upper, lower)]
    if None in curves:
        return stats.missing("no runs")
    return stats.capacity_ratio(*curves, threshold, f"ratio/{panel}/{threshold:g}/{lower}")


def _on_paper_rates(results, panel, system, law):
    """Without the rates that a refining search added around a crossing."""
    return fig12_curve(results, panel, system, law, refined=False)


def trace_means(results, dataset):
    """Mean prompt and output tokens of the traces behind Figures 2, 12 and 13, or None.

    Of each seed the longest trace (the shorter ones begin with the same lengths), weighted by its
    requests: (prompt, output, requests).
    """
    traces = {}
    for figure in ("2", "12", "13"):
        for run in results.select(figure, dataset=dataset):
            trace = run.raw.get("trace", {})
            if trace.get("requests", 0) > traces.get(run.get("seed"), {}).get("requests", 0):
                traces[run.get("seed")] = trace
    requests = sum(t["requests"] for t in traces.values())
    if not requests:
        return None
    prompt, output = (
        sum(t["requests"] * t[f"mean_{kind}_tokens"] for t in traces.values()) / requests
        for kind in ("prompt", "output")
    )
    return prompt, output, requests


def _mean_of(runs, item, metrics, scale=1.0):
    """Mean over runs of a sum of metrics."""
    if not runs:
        return stats.missing("no runs")
    values = []
    for run in runs:
        terms = [run.metric(name) for name in metrics]
        values.append(None if None in terms else scale * sum(terms))
    return stats.mean_estimate(values, item)


def _fig2(results, item, law, system, memory_class):
    runs = results.select("2", law=law, system=system)
    return _mean_of(runs, item, FIG2_CLASSES[memory_class], scale=100.0)


def _fig12(results, item, law, panel, _model, _dataset, threshold, system):
    curve = _on_paper_rates(results, panel, system, law)
    if curve is None:
        return stats.missing("no runs")
    return stats.capacity(curve, float(threshold), item)


def _fig13(results, item, law, dataset, system):
    system = system.removesuffix("-unreachable")
    rate = next(
        float(r["request_rate_per_s"])
        for r in paper.table("fig13_batched_requests")
        if r["dataset"] == dataset
    )
    runs = results.select("13", law=law, dataset=dataset, system=system, request_rate_per_s=rate)
    return _mean_of(runs, item, ("batch_groups",))


def real_capacity(results, dataset, system):
    """What a system sustains at 0.5 s/token on a real trace, over every rate that was run."""
    curve = latency_curve(results, "real", dataset=dataset, system=system)
    if curve is None:
        return stats.missing("no runs")
    return stats.capacity(curve, SHARING_THRESHOLD, f"real/{dataset}/{system}")


def _capacity_or_ratio(results, item, law, figure, what, axes):
    """`what` is "ratio" (vLLM over Oracle) or the name of one system."""
    systems = ("vllm", "orca-oracle") if what == "ratio" else (what,)
    curves = [latency_curve(results, figure, law, system=system, **axes) for system in systems]
    if None in curves:
        return stats.missing("no runs")
    if what == "ratio":
        return stats.capacity_ratio(*curves, SHARING_THRESHOLD, item)
    return stats.capacity(curves[0], SHARING_THRESHOLD, item)


def _fig14(results, item, law, decoding, width, what):
    axes = {"decoding": decoding, "width": int(width)}
    return _capacity_or_ratio(results, item, law, "14", what, axes)


def _fig15(results, item, law, dataset, decoding, width):
    runs = results.select("15", law=law, dataset=dataset, decoding=decoding, width=int(width))
    return _mean_of(runs, item, ("sharing_saving",), scale=100.0)


def _fig16(results, item, law, prefix, what):
    return _capacity_or_ratio(results, item, law, "16", what, {"prefix": prefix})


def _fig17(results, item, law, what):
    # Only the runs in which every system starts conversations with the same probability.
    return _capacity_or_ratio(results, item, law, "17", what, {"p_new": fig17_equal_p_new(results)})


def fig17_equal_p_new(results):
    """The start probability that vLLM and Orca (Oracle) share in Fig. 17 (None: not stated)."""
    shared = None
    for system in ("vllm", "orca-oracle"):
        values = {run.get("p_new") for run in results.select("17", system=system)}
        shared = values if shared is None else shared & values
    shared.discard(None)
    return max(shared) if shared else None


def _fig18b(results, item, law, dataset, block):
    runs = results.select("18b", law=law, dataset=dataset, block_tokens=int(block))
    return _mean_of(runs, item, ("normalized_latency_s_per_token.mean",))


# The artifact scales its recompute times by this before it plots them, and does not say why.
FIG19A_RECOMPUTE_SCALE = 0.9


def _fig19a(results, item, law, what, block):
    runs = results.select("19a", law=law, block_tokens=int(block))
    if what != "recompute_as_plotted":
        return _mean_of(runs, item, (f"{what}_ms",))
    return _mean_of(runs, item, ("recompute_ms",)).scaled(FIG19A_RECOMPUTE_SCALE)


def _fig19b(results, item, law, preemption, block):
    runs = results.select("19b", law=law, preemption=preemption, block_tokens=int(block))
    return _mean_of(runs, item, ("normalized_latency_s_per_token.mean",))


_MEASURES = {
    "fig2": _fig2,
    "fig12": _fig12,
    "fig13": _fig13,
    "fig14": _fig14,
    "fig15": _fig15,
    "fig16": _fig16,
    "fig17": _fig17,
    "fig18b": _fig18b,
    "fig19a": _fig19a,
    "fig19b": _fig19b,
}
