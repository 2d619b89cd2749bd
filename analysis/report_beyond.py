"""Tables of what goes past the paper: real traces, break-even maps, any other experiment."""

import statistics

from analysis import measures, stats, tables
from analysis.figures import maps, own as own_figure, style
from analysis.report_cells import cell, number
from analysis.results import JUDGED_LAW, values_of


def real(results, _board, _verdicts):
    """Capacities on real traces, then every system at shares of its own."""
    return [_real_capacities(results), _at_shares(results)]


def _real_capacities(results):
    """What each system sustains per trace, and how much more vLLM does."""
    runs = results.select("real", law=JUDGED_LAW)
    rows = []
    for dataset in values_of(runs, "dataset"):
        systems = style.ordered({r.get("system") for r in runs if r.get("dataset") == dataset})
        found = {s: measures.real_capacity(results, dataset, s) for s in systems}
        best = found.get("vllm", stats.missing("no runs")).value
        for system, estimate in found.items():
            interval = (
                "" if estimate.low is None else f"{number(estimate.low)} to {number(estimate.high)}"
            )
            ratio = best / estimate.value if best and estimate.ok else None
            rows.append(
                [
                    cell(f"{dataset}, {style.label(system)}"),
                    cell(number(estimate.value) if estimate.ok else estimate.note),
                    cell(interval, "dim"),
                    cell("–" if ratio is None else f"{ratio:.2f}x"),
                ]
            )
    head = ("trace, system", "req/s at 0.5 s/token", "95 % interval", "vLLM sustains")
    return {"caption": "Capacities", "head": head, "rows": rows, "folded": False}


def _at_shares(results):
    """One line per trace, system and share of its capacity; means over seeds."""
    columns = {
        "norm. latency": "normalized_latency_s_per_token.mean",
        "p99": "normalized_latency_s_per_token.p99",
        "TTFT": "ttft_s.mean",
        "TTFT p99": "ttft_s.p99",
        "TPOT": "tpot_s.mean",
        "batch": "batch_groups",
        "live": "memory.live",
        "preemptions": "preemptions",
    }
    groups = {}
    for run in results.select("real", law=JUDGED_LAW):
        if run.get("capacity_share"):
            key = (run.get("dataset"), run.get("system"), run.get("capacity_share"))
            groups.setdefault(key, []).append(run)
    rows = []
    for (dataset, system, share), runs in sorted(groups.items()):
        dropped = statistics.fmean(r.raw.get("trace", {}).get("dropped_share", 0.0) for r in runs)
        rows.append(
            [
                cell(f"{dataset}, {style.label(system)}, {100 * share:.0f} %"),
                cell(number(runs[0].get("request_rate_per_s"))),
                *_means(runs, columns.values()),
                cell(f"{100 * dropped:.1f} %"),
            ]
        )
    return {
        "caption": "At shares of each system's own capacity",
        "dense": True,
        "head": ("trace, system, load", "req/s", *columns, "dropped"),
        "rows": rows,
        "folded": False,
    }


def _means(runs, metrics):
    """A cell per metric: its mean over the runs."""
    cells = []
    for metric in metrics:
        values = [v for r in runs if (v := r.metric(metric)) is not None]
        cells.append(cell(number(statistics.fmean(values)) if values else "–"))
    return cells


def _by_system_and_rate(point):
    axes, _ = point
    order = style.ordered([axes["system"], *style.SYSTEMS])
    return order.index(axes["system"]), axes.get("request_rate_per_s") or 0.0


def own(results, experiment):
    """One line per point of any other experiment; means over seeds."""
    columns = {
        "norm. latency": "normalized_latency_s_per_token.mean",
        "p99": "normalized_latency_s_per_token.p99",
        "TTFT p99": "ttft_s.p99",
        "TPOT": "tpot_s.mean",
        "ITL p99": "itl_s.p99",
        "req/s done": "request_throughput_per_s",
        "goodput": "goodput_per_s",
        "batch": "batch_groups",
        "live": "memory.live",
        "preemptions": "preemptions",
    }
    rows = []
    for title, runs in own_figure.panels(results.select(experiment)).items():
        for axes, mine in sorted(tables.points(runs), key=_by_system_and_rate):
            name = ", ".join(t for t in (style.label(axes["system"]), title) if t)
            rows.append(
                [
                    cell(name),
                    cell(number(axes.get("request_rate_per_s"))),
                    *_means(mine, columns.values()),
                ]
            )
    head = ("system", "req/s", *columns)
    many = len(rows) > 40
    caption = f"All {len(rows)} points" if many else ""
    return {"caption": caption, "dense": True, "head": head, "rows": rows, "folded": many}


def breakeven(results, _board, _verdicts):
    """How many cells of the maps each baseline wins, ties and loses."""
    ratio = maps.cells(results)
    rows = []
    for baseline in style.ordered({key[0] for key in ratio}):
        for load in values_of(results.select("breakeven"), "load"):
            mine = [v for key, v in ratio.items() if key[0] == baseline and key[1] == load]
            wins = sum(v > 1 + maps.TIE for v in mine)
            loses = sum(v < 1 - maps.TIE for v in mine)
            rows.append(
                [
                    cell(f"against {style.label(baseline)}, load {load:g}"),
                    cell(str(wins)),
                    cell(str(len(mine) - wins - loses)),
                    cell(str(loses)),
                    cell(f"{min(mine):.2f} to {max(mine):.2f}" if mine else "–"),
                ]
            )
    return [
        {
            "caption": "Cells of the map where paging",
            "head": ("", "wins", "ties (within 5 %)", "loses", "latency ratio"),
            "rows": rows,
            "folded": False,
        }
    ]
