"""Tables of what goes past the paper: real traces, break-even maps, any other experiment."""

import statistics

from analysis import tables
from analysis.figures import maps, own as own_figure, style
from analysis.report_cells import cell, number
from analysis.results import JUDGED_LAW, values_of


def real(results, _board, _verdicts):
    """One line per real trace, system and rate; means over seeds."""
    groups = {}
    for run in results.select("real", law=JUDGED_LAW):
        key = (
            run.get("dataset"),
            run.get("system"),
            run.get("capacity_share") or 0.0,
            run.get("request_rate_per_s") or 0.0,
        )
        groups.setdefault(key, []).append(run)
    wanted = (
        "normalized_latency_s_per_token.mean",
        "normalized_latency_s_per_token.p99",
        "ttft_s.mean",
        "ttft_s.p99",
        "batch_groups",
        "preemptions",
    )
    rows = []
    for (dataset, system, share, rate), runs in sorted(groups.items(), key=lambda kv: kv[0]):
        cells = []
        for name in wanted:
            values = [v for r in runs if (v := r.metric(name)) is not None]
            cells.append(cell(number(statistics.fmean(values)) if values else "–"))
        dropped = runs[0].raw.get("trace", {}).get("dropped_share")
        rows.append(
            [
                cell(f"{dataset}, {style.label(system)}"),
                cell(f"{100 * share:.0f} %" if share else "–"),
                cell(number(rate)),
                *cells,
                cell("–" if dropped is None else f"{100 * dropped:.1f} %"),
            ]
        )
    return [
        {
            "caption": "",
            "head": (
                "trace, system",
                "of capacity",
                "req/s",
                "norm. latency",
                "p99",
                "TTFT",
                "p99",
                "batch",
                "preemptions",
                "over 2048 tokens",
            ),
            "rows": rows,
            "folded": False,
        }
    ]


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
        "req/s done": "request_throughput_per_s",
        "goodput": "goodput_per_s",
        "batch": "batch_groups",
        "live": "memory.live",
        "preemptions": "preemptions",
    }
    rows = []
    for title, runs in own_figure.panels(results.select(experiment)).items():
        for axes, mine in sorted(tables.points(runs), key=_by_system_and_rate):
            cells = []
            for metric in columns.values():
                values = [v for r in mine if (v := r.metric(metric)) is not None]
                cells.append(cell(number(statistics.fmean(values)) if values else "–"))
            name = ", ".join(t for t in (style.label(axes["system"]), title) if t)
            rows.append([cell(name), cell(number(axes.get("request_rate_per_s"))), *cells])
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
