"""attribution.csv: where a step of decodes spends its time, from the rows of bench/experiments/gpu/attribution.

`python3 analysis/attribution.py DIR FILE.csv` writes one line per point, side and part, in microseconds per
step. The parts of a side add up to the step; core/exec/cuda/PROFILING.md says what they are.
"""

import csv
import io
import os
import sys

if __package__ in (None, ""):  # run as a file: find the package from anywhere
    sys.path[0] = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))

from analysis import results as results_module, textio

COLUMNS = ("model", "device", "commit", "sequences", "tokens_per_s", "steps", "step_us", "scale",
           "mark_us", "side", "part", "us", "share")


def lines(runs):
    """One list of cells per part, points by model and batch, parts longest first."""
    found = []
    for run in runs:
        attribution = run.raw.get("attribution")
        if attribution is None:
            continue
        sequences = run.raw["config"]["system"]["max_sequences"]
        step = attribution["step_us"]
        head = [run.get("model"), run.get("device"), run.raw["build"]["commit"], sequences,
                run.metric("output_throughput_tokens_per_s"), attribution["steps"], step,
                attribution["scale"], attribution["mark_us"]]
        for side in ("device", "host"):
            parts = attribution[f"{side}_us"]
            for part in sorted(parts, key=lambda p: (p == "unexplained", -parts[p], p)):
                found.append(head + [side, part, parts[part], parts[part] / step])
    return sorted(found, key=lambda cells: (cells[0], cells[3]))


def to_csv(found):
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(COLUMNS)
    writer.writerows([textio.cell(value) for value in cells] for cells in found)
    return out.getvalue()


def main(arguments):
    if len(arguments) != 2:
        print("usage: attribution.py DIR FILE.csv", file=sys.stderr)
        return 2
    try:
        runs = results_module.load(arguments[0]).runs
    except results_module.ResultsError as error:
        print(error, file=sys.stderr)
        return 2
    found = lines(runs)
    if not found:
        print(f"{arguments[0]}: no run has an attribution", file=sys.stderr)
        return 2
    textio.write(arguments[1], to_csv(found))
    return 0


if __name__ == "__main__":
    textio.exit_with("attribution", main)
