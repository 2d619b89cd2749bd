"""Loading a results directory: DIR/rows/*.json, one row per run (README.md, "Input").

A Run keeps the axes by which runs are grouped (figure, system, rate, ...) and its metrics flattened
to dotted names, so that the rest of the package never walks JSON.
"""

import json
import os
import re

# What an axis is where a row does not name it.
DEFAULTS = {
    "panel": "",
    "model": "opt-13b",
    "dataset": "",
    "law": "max",
    "decoding": "single",
    "width": 1,
    "prefix": "",
    "block_tokens": 16,
    "preemption": "",
    "p_new": None,
    "refined": False,
}
JUDGED_LAW = DEFAULTS["law"]
# The judged law with an assumed cost of small blocks in the kernel, for Fig. 18b and 19b.
KERNEL_CURVE_LAW = "max-kernel-curve"
# The same with the curve measured on an H200, at contexts like each data set's.
H200_CURVE_LAWS = {"sharegpt": "max-h200-curve", "alpaca": "max-h200-curve-short"}
PREFIXES = {80: "1-shot", 341: "5-shot"}  # Fig. 16's, by their tokens


class ResultsError(Exception):
    """A results directory that cannot be used; one clear line."""


class Run:
    """One row. `axes` identifies the run, `metrics` holds flat dotted names ("ttft_s.mean")."""

    __slots__ = ("path", "figure", "axes", "metrics", "raw")

    def __init__(self, path, raw):
        self.path = path
        self.raw = raw
        point = raw["point"]
        self.axes = {**DEFAULTS, **{name: _plain(value) for name, value in point.items()}}
        self.figure, panel = _figure_of(point.get("figure") or raw.get("experiment", ""))
        self.axes["figure"] = self.figure
        if panel and not self.axes["panel"]:
            self.axes["panel"] = panel
        self.axes["prefix"] = self.axes["prefix"] or PREFIXES.get(point.get("prefix_tokens"), "")
        self.metrics = {}
        _flatten("", raw["metrics"], self.metrics)

    def get(self, axis):
        return self.axes.get(axis)

    def metric(self, name):
        """The metric as a float, or None where the run does not report it."""
        value = self.metrics.get(name)
        return float(value) if isinstance(value, (int, float)) else None


class Results:
    """All runs of a directory, indexed by figure."""

    def __init__(self, directory, runs, manifest=None):
        self.directory = directory
        self.runs = runs
        self.manifest = manifest or {}
        self._by_figure = {}
        for run in runs:
            self._by_figure.setdefault(run.figure, []).append(run)

    def figures(self):
        return sorted(self._by_figure)

    def select(self, figure, **axes):
        """Runs of a figure whose axes equal the given values, in file-name order."""
        return [
            run
            for run in self._by_figure.get(figure, [])
            if all(_same(run.axes.get(name), value) for name, value in axes.items())
        ]

    def laws(self, figure):
        """Step-time laws other than the judged one that have runs for this figure."""
        return sorted({run.get("law") for run in self._by_figure.get(figure, [])} - {JUDGED_LAW})


def values_of(runs, axis):
    """The distinct values of an axis, sorted (numbers by size)."""
    found = {run.get(axis) for run in runs if run.get(axis) is not None}
    return sorted(found, key=lambda v: (isinstance(v, str), v))


def load(directory):
    """Reads DIR/rows/*.json and DIR/manifest.json (if any). Throws ResultsError."""
    if not os.path.isdir(directory):
        raise ResultsError(f"{directory}: no such directory")
    rows_dir = os.path.join(directory, "rows")
    if not os.path.isdir(rows_dir):
        raise ResultsError(f"{directory}: no rows/ in it; `kvstow run` writes them there")
    runs = []
    for name in sorted(os.listdir(rows_dir)):
        if name.endswith(".json"):
            path = os.path.join(rows_dir, name)
            runs.append(_run_from(path))
    if not runs:
        raise ResultsError(f"{rows_dir}: no rows (*.json)")
    manifest_path = os.path.join(directory, "manifest.json")
    manifest = _read_json(manifest_path) if os.path.exists(manifest_path) else {}
    if not isinstance(manifest, dict) or not isinstance(manifest.get("experiments", {}), dict):
        raise ResultsError(f"{manifest_path}: not of `kvstow run`")
    return Results(directory, runs, manifest)


def _run_from(path):
    raw = _read_json(path)
    if not isinstance(raw, dict):
        raise ResultsError(f"{path}: a row must be a JSON object")
    if raw.get("schema") != 1:
        raise ResultsError(f"{path}: schema is {raw.get('schema')!r}, this reader knows 1")
    for part in ("point", "metrics", "trace", "build"):
        if not isinstance(raw.get(part), dict):
            raise ResultsError(f"{path}: no object '{part}'")
    for name, value in raw["point"].items():
        if isinstance(value, (dict, list)):
            raise ResultsError(f"{path}: point.{name} is neither a text nor a number")
    return Run(path, raw)


def _read_json(path):
    try:
        with open(path, encoding="utf-8") as file:
            return json.load(file)
    except (OSError, UnicodeDecodeError) as error:
        raise ResultsError(f"{path}: {error}") from error
    except json.JSONDecodeError as error:
        raise ResultsError(f"{path}:{error.lineno}: not JSON: {error.msg}") from error


def _figure_of(name):
    """'12', 'fig12', '12a' or 'fig12a' -> ('12', panel); 18 and 19 keep their letter."""
    name = str(name).lower()
    match = re.fullmatch(r"(?:fig(?:ure)?[ _-]?)?(\d+)([a-f]?)", name)
    if not match:
        return name, ""
    number, letter = match.groups()
    if number in ("18", "19"):
        return number + letter, ""
    return number, letter


def _plain(value):
    """Labels are text; one that is a number ("0.5") becomes one, so that axes sort and compare."""
    if isinstance(value, str):
        try:
            return float(value)
        except ValueError:
            pass
    return value


def _flatten(prefix, value, out):
    if isinstance(value, dict):
        for key, inner in value.items():
            _flatten(f"{prefix}.{key}" if prefix else key, inner, out)
    else:
        out[prefix] = value


def _same(left, right):
    if isinstance(left, (int, float)) and isinstance(right, (int, float)):
        return abs(left - right) <= 1e-9 * max(1.0, abs(left), abs(right))
    return left == right
