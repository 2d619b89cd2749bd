"""Kernel times recorded on a GPU (results/h200/museum.json, by bench/kernels_cuda): Fig. 18a's points
and the time over the block size."""

import functools
import json
import os

import yaml

from analysis.paper import HERE
from analysis.results import KERNEL_CURVE_LAW

ROOT = os.path.dirname(HERE)
RECORDED = os.path.join(ROOT, "results", "h200", "museum.json")
CURVES = os.path.join(ROOT, "results", "h200", "kernel_block_curve.yaml")
A100 = os.path.join(ROOT, "bench", "devices", "a100-40gb.yaml")
BATCHES, CONTEXTS = (8, 32), (64, 128, 256)


@functools.lru_cache(maxsize=None)
def _recorded():
    """({row name: median microseconds}, device), or ({}, "") where nothing is recorded."""
    if not os.path.exists(RECORDED):
        return {}, ""
    with open(RECORDED, encoding="utf-8") as file:
        rows = json.load(file)
    times = {r["name"].split("/iterations")[0]: r["median_us"] for r in rows["benchmarks"]}
    return times, rows["context"]["device"]


def device():
    """Where the rows were measured; empty where there are none."""
    return _recorded()[1]


def latencies(body, batch):
    """Microseconds of one launch at the contexts of Fig. 18a."""
    return [_recorded()[0][f"fig18a/{body}/{batch}/{context}"] for context in CONTEXTS]


def block_curve(body, dataset):
    """{block size: time over that with blocks of 16}"""
    return _yaml(CURVES)[body][dataset]


def assumed_curve():
    """The same as it is assumed for the A100."""
    return _yaml(A100)["laws"][KERNEL_CURVE_LAW]["kv_time_by_block"]


@functools.lru_cache(maxsize=None)
def _yaml(path):
    with open(path, encoding="utf-8") as file:
        return yaml.safe_load(file)
