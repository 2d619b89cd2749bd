"""Reads what results/h200 holds. A file that is not there has no rows, which makes its figures "not measured"."""
import csv
import json


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
