"""summary.csv: every point's serving metrics, means over seeds with 95 % intervals.

`python3 analysis/tables.py DIR` writes DIR/summary.csv: one line per point and metric. Distributions
have mean, median, p90 and p99 (each the seed mean of that statistic); single numbers only a mean.
"""

import csv
import io
import os
import sys

if __package__ in (None, ""):  # run as a file: find the package from anywhere
    sys.path[0] = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))

import numpy as np

from analysis import results as results_module, stats, textio

AXES = (
    "figure",
    "panel",
    "model",
    "dataset",
    "system",
    "law",
    "decoding",
    "width",
    "prefix",
    "block_tokens",
    "preemption",
    "p_new",
    "request_rate_per_s",
)
DISTRIBUTIONS = ("normalized_latency_s_per_token", "ttft_s", "tpot_s", "itl_s", "e2el_s", "queue_s")
STATISTICS = ("mean", "median", "p90", "p99")
SINGLES = (
    "request_throughput_per_s",
    "output_throughput_tokens_per_s",
    "goodput_per_s",
    "batch_groups",
    "batch_sequences",
    "memory.live",
    "memory.reserved",
    "memory.internal",
    "memory.rounding",
    "memory.free",
    "sharing_saving",
    "preemptions",
    "recomputed_tokens",
    "swapped_tokens",
    "requests.rejected",
)


def points(runs):
    """[(axes, runs)]: the runs of each point, seeds together, in the order they were met."""
    groups = {}
    for run in runs:
        key = tuple(sorted((k, str(v)) for k, v in run.axes.items() if k != "seed"))
        groups.setdefault(key, []).append(run)
    return [(mine[0].axes, mine) for mine in groups.values()]


def summary_csv(results):
    """summary.csv as text."""
    grouped = points(results.runs)
    more = sorted({k for axes, _ in grouped for k in axes} - {*AXES, "seed"})
    bounds = [f"{s}{end}" for s in STATISTICS for end in ("", "_low", "_high")]
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow([*AXES, *more, "seeds", "metric", *bounds])
    for axes, runs in grouped:
        head = [textio.cell(axes.get(name)) for name in (*AXES, *more)] + [len(runs)]
        for metric, cells in _lines(runs):
            writer.writerow([*head, metric, *cells])
    return out.getvalue()


def _lines(runs):
    """(metric, 12 cells) for the metrics that every run of the point reports."""
    named = [(m, [f"{m}.{s}" for s in STATISTICS]) for m in DISTRIBUTIONS]
    named += [(m, [m]) for m in SINGLES]
    columns = [name for _, names in named for name in names]
    values = np.array([[_number(run.metric(c)) for c in columns] for run in runs])
    means = values.mean(axis=0)
    if len(runs) > 1:
        low, high = stats.interval(stats.resample_weights(len(runs), "summary") @ values)
    else:
        low = high = np.full(len(columns), np.nan)
    at = 0
    for metric, names in named:
        span = range(at, at + len(names))
        at += len(names)
        if not np.isnan(means[list(span)]).all():
            cells = [_cell(x) for i in span for x in (means[i], low[i], high[i])]
            yield metric, cells + [""] * (12 - len(cells))


def _number(value):
    return np.nan if value is None else value


def _cell(value):
    return "" if np.isnan(value) else textio.cell(float(value))


def main(arguments):
    if len(arguments) != 1 or arguments[0].startswith("-"):
        print("usage: tables.py DIR", file=sys.stderr)
        return 2
    try:
        text = summary_csv(results_module.load(arguments[0]))
    except results_module.ResultsError as error:
        print(f"tables: {error}", file=sys.stderr)
        return 2
    path = os.path.join(arguments[0], "summary.csv")
    textio.write(path, text)
    print(f"{path}: {text.count(chr(10)) - 1} lines")
    return 0


if __name__ == "__main__":
    textio.exit_with("tables", main)
