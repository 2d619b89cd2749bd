"""scoreboard.csv: the paper's numbers beside ours, one row each.

`python3 analysis/scoreboard.py DIR` writes DIR/scoreboard.csv from DIR/rows.
"""

import csv
import io
import os
import sys

if __package__ in (None, ""):  # run as a file: find the package from anywhere
    sys.path[0] = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))

from analysis import measures, paper, results as results_module, textio

COLUMNS = ("figure", "item", "unit", "paper", "ours", "ci_low", "ci_high", "difference")


def build(results, targets=None):
    """The scoreboard as a list of dictionaries with COLUMNS (numbers or None) and `note`.

    Items without a number are left out: verify names them as missing. Other step-time laws follow
    their item as `ITEM/law=NAME`.
    """
    board = []
    for target in targets or paper.targets():
        if target.is_rule:
            continue
        for law in (results_module.JUDGED_LAW, *results.laws(target.figure)):
            estimate = measures.measure(results, target.item, law)
            if estimate.ok:
                board.append(_row(target, law, estimate))
    return board


def _row(target, law, estimate):
    suffix = "" if law == results_module.JUDGED_LAW else f"/law={law}"
    return {
        "figure": target.figure,
        "item": target.item + suffix,
        "unit": target.unit,
        "paper": target.paper,
        "ours": estimate.value,
        "ci_low": estimate.low,
        "ci_high": estimate.high,
        "difference": None if target.paper is None else estimate.value - target.paper,
        "note": estimate.note,
    }


def why_missing(results, target):
    """One clause on why the result rows give an item no number; blank where they do."""
    estimate = measures.measure(results, target.item)
    return "" if estimate.ok else estimate.note


def to_csv(board):
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(COLUMNS)
    for row in board:
        writer.writerow([textio.cell(row[name]) for name in COLUMNS])
    return out.getvalue()


def read(path):
    """A scoreboard.csv as build() makes it. Throws ResultsError."""
    try:
        rows = paper.read_csv(path)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise results_module.ResultsError(f"{path}: {error}") from error
    board = []
    for line, row in enumerate(rows, start=2):
        lacking = [name for name in COLUMNS if row.get(name) is None]
        if lacking:
            raise results_module.ResultsError(f"{path}:{line}: no column '{lacking[0]}'")
        try:
            numbers = {n: paper.number(row[n]) for n in COLUMNS[3:]}
        except ValueError as error:
            raise results_module.ResultsError(f"{path}:{line}: {error}") from error
        board.append({**row, **numbers, "note": ""})
    return board


def main(arguments):
    if len(arguments) != 1 or arguments[0].startswith("-"):
        print("usage: scoreboard.py DIR", file=sys.stderr)
        return 2
    try:
        board = build(results_module.load(arguments[0]))
    except results_module.ResultsError as error:
        print(f"scoreboard: {error}", file=sys.stderr)
        return 2
    path = os.path.join(arguments[0], "scoreboard.csv")
    textio.write(path, to_csv(board))
    print(f"{path}: {len(board)} rows")
    return 0


if __name__ == "__main__":
    textio.exit_with("scoreboard", main)
