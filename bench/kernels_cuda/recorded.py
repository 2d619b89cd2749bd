"""Reads what results/h200 holds. A file that is not there has no rows, which makes its figures "not measured".

What the recording scripts are given is another matter: `measured` ends them in one line, exit code 2, before they
have written anything.
"""
import csv
import json
import pathlib
import sys


def measured(path, *members):
    """The JSON object in a file just measured, which has these members."""
    try:
        found = json.loads(pathlib.Path(path).read_text())
    except OSError as error:
        refuse(f"{path}: {error.strerror}")
    except ValueError as error:
        refuse(f"{path}:{getattr(error, 'lineno', 1)}: not JSON")
    for member in members:
        if member not in found:
            refuse(f"{path}: no \"{member}\" in it")
    return found


def refuse(why):
    print(why, file=sys.stderr)
    sys.exit(2)


def benchmarks(path):
    """{name: row} of Google Benchmark's JSON (record.py), without rows that failed."""
    rows = {}
    for row in _member(path, "benchmarks"):
        if not row.get("error_occurred"):
            rows[row["name"].split("/iterations")[0]] = row
    return rows


def engine_runs(path):
    """Entries of record_engine.py."""
    return _member(path, "runs")


def verdicts(path):
    """Entries of record_verify.py."""
    return _member(path, "verify")


def table(path):
    return list(csv.DictReader(path.read_text().splitlines())) if path.exists() else []


def _member(path, key):
    return json.loads(path.read_text())[key] if path.exists() else []
