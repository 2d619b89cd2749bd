"""The paper's numbers (paper/*.csv) and the targets (targets.csv): reference data, read-only."""

import csv
import functools
import os
from dataclasses import dataclass

HERE = os.path.dirname(os.path.abspath(__file__))
SYSTEMS = ("faster-transformer", "orca-max", "orca-pow2", "orca-oracle", "vllm")
PANELS = {  # Fig. 12
    "a": ("opt-13b", "sharegpt"),
    "b": ("opt-66b", "sharegpt"),
    "c": ("opt-175b", "sharegpt"),
    "d": ("opt-13b", "alpaca"),
    "e": ("opt-66b", "alpaca"),
    "f": ("opt-175b", "alpaca"),
}


def read_csv(path):
    """Rows of a CSV as dictionaries; lines that start with '#' are comments."""
    with open(path, encoding="utf-8", newline="") as file:
        return list(csv.DictReader(line for line in file if not line.startswith("#")))


def number(text):
    """A CSV cell as a float; None where it is blank."""
    return float(text) if text not in (None, "") else None


@functools.lru_cache(maxsize=None)
def table(name):
    """paper/NAME.csv, read once. Callers must not change it."""
    return read_csv(os.path.join(HERE, "paper", name + ".csv"))


def series(name, y, x="request_rate_per_s", **where):
    """(x values, y values) of the rows of paper/NAME.csv that match."""
    rows = [r for r in table(name) if all(r[k] == str(v) for k, v in where.items())]
    rows = [r for r in rows if r[y] != ""]
    return [float(r[x]) for r in rows], [float(r[y]) for r in rows]


def fig12_capacity(panel, threshold, system):
    """The paper's capacity (req/s), None where its series has no crossing."""
    for row in table("fig12_capacity"):
        if row["panel"] == panel and float(row["threshold_s_per_token"]) == float(threshold):
            return number(row[system.replace("-", "_")])
    return None


@dataclass(frozen=True)
class Target:
    """A line of targets.csv; the header comment of that file defines `judge` and `tolerance`."""

    figure: str
    item: str
    unit: str
    paper: float
    how_known: str
    judge: str
    tolerance: str
    note: str

    @property
    def is_rule(self):
        return self.item.startswith("rule/")

    @property
    def bounds(self):
        """(low, high) of a 'low..high' tolerance."""
        low, high = self.tolerance.split("..")
        return float(low), float(high)


def targets(path=None):
    """All lines of targets.csv in file order."""
    return [
        Target(
            r["figure"],
            r["item"],
            r["unit"],
            number(r["paper"]),
            r["how_known"],
            r["judge"],
            r["tolerance"],
            r["note"],
        )
        for r in read_csv(path or os.path.join(HERE, "targets.csv"))
    ]
