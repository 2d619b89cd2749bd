"""Statistics over seeds: bootstrapped intervals and the crossing of a latency threshold.

Runs of one figure are paired by seed (every arm of a sweep sees the same trace), so a resample
draws seeds once and applies them to every rate and system it compares.
"""

import itertools
import math
import zlib
from dataclasses import dataclass, replace

import numpy as np

CONFIDENCE = 0.95
DRAWS = 2000
# Up to this many seeds every resample is enumerated (4^4 = 256), so the interval is exact.
ENUMERATED_SEEDS = 4


@dataclass(frozen=True)
class Estimate:
    """A value with its 95 % interval; `note` says why there is none, or what to know about it."""

    value: float = None
    low: float = None
    high: float = None
    seeds: int = 0
    note: str = ""

    @property
    def ok(self):
        return self.value is not None

    def scaled(self, factor):
        """The same in another unit; factor > 0."""

        def times(x):
            return None if x is None else factor * x

        return replace(self, value=times(self.value), low=times(self.low), high=times(self.high))


def missing(note):
    return Estimate(note=note)


def resample_weights(seeds, name):
    """Bootstrap weights [B, seeds]; each row sums to 1. Deterministic in (seeds, name)."""
    if seeds <= ENUMERATED_SEEDS:
        draws = np.array(list(itertools.product(range(seeds), repeat=seeds)))
    else:
        rng = np.random.default_rng(zlib.crc32(name.encode()))
        draws = rng.integers(0, seeds, size=(DRAWS, seeds))
    counts = np.zeros((len(draws), seeds))
    np.add.at(counts, (np.arange(len(draws))[:, None], draws), 1.0)
    return counts / seeds


def interval(samples):
    """The central 95 % of the samples along axis 0."""
    tail = (1.0 - CONFIDENCE) / 2
    return np.quantile(samples, [tail, 1.0 - tail], axis=0)


def mean_estimate(values, name):
    """Mean over seeds of one number per seed."""
    # Sorted, so that the interval does not depend on the order in which rows were found.
    values = np.sort(np.asarray([v for v in values if v is not None], dtype=float))
    if values.size == 0:
        return missing("no run reports it")
    if values.size == 1:
        return Estimate(float(values[0]), seeds=1, note="one seed: no interval")
    low, high = interval(resample_weights(values.size, name) @ values)
    return Estimate(float(values.mean()), float(low), float(high), int(values.size))


@dataclass(frozen=True)
class Curve:
    """A metric over rates and seeds: rates [R] ascending, seeds [S], values [R, S]."""

    rates: np.ndarray
    seeds: tuple
    values: np.ndarray

    @property
    def mean(self):
        return self.values.mean(axis=1)

    def band(self, name):
        """The 95 % interval of the mean at every rate: (low [R], high [R])."""
        if len(self.seeds) < 2:
            return self.mean, self.mean
        return interval(resample_weights(len(self.seeds), name) @ self.values.T)

    def with_seeds(self, seeds):
        return Curve(self.rates, tuple(seeds), self.values[:, [self.seeds.index(s) for s in seeds]])


def curve_of(runs, metric="normalized_latency_s_per_token.mean"):
    """The curve of a list of runs over request_rate_per_s, over the seeds that every rate has.

    Returns None where there is nothing. A rate swept twice for a seed keeps the first run.
    """
    cells = {}
    for run in runs:
        rate, value = run.get("request_rate_per_s"), run.metric(metric)
        if rate is not None and value is not None and math.isfinite(value):
            cells.setdefault(float(rate), {}).setdefault(run.get("seed"), value)
    if not cells:
        return None
    seeds = set.intersection(*(set(by_seed) for by_seed in cells.values()))
    if not seeds:
        return None
    seeds = tuple(sorted(seeds, key=str))
    rates = np.array(sorted(cells))
    values = np.array([[cells[rate][seed] for seed in seeds] for rate in rates])
    return Curve(rates, seeds, values)


def crossings(rates, curves, threshold):
    """Where each curve [B, R] first reaches the threshold, by linear interpolation over the rates.

    -inf: already above it at the lowest rate; +inf: never reaches it.
    """
    curves = np.atleast_2d(curves)
    above = curves >= threshold
    first = np.argmax(above, axis=1)
    result = np.full(len(curves), np.inf)
    reached = above.any(axis=1)
    result[reached & (first == 0)] = -np.inf
    rows = np.flatnonzero(reached & (first > 0))
    right = first[rows]
    y0, y1 = curves[rows, right - 1], curves[rows, right]
    x0, x1 = rates[right - 1], rates[right]
    result[rows] = x0 + (x1 - x0) * (threshold - y0) / (y1 - y0)
    return result


def capacity(curve, threshold, name):
    """The highest rate that keeps the seed-mean latency under the threshold (first crossing).

    Resamples that do not cross inside the sweep count at its nearest end.
    """
    value = crossings(curve.rates, curve.mean, threshold)[0]
    if math.isinf(value):
        return missing(_no_crossing(curve, threshold, value))
    if len(curve.seeds) < 2:
        return Estimate(float(value), seeds=1, note="one seed: no interval")
    low, high = interval(_capacity_samples(curve, threshold, name))
    return Estimate(float(value), float(low), float(high), len(curve.seeds))


def capacity_ratio(upper, lower, threshold, name):
    """capacity(upper) / capacity(lower); the interval resamples the seeds of both together."""
    values = []
    for curve in (upper, lower):
        value = crossings(curve.rates, curve.mean, threshold)[0]
        if math.isinf(value):
            return missing(_no_crossing(curve, threshold, value))
        values.append(value)
    ratio = float(values[0] / values[1])
    common = sorted(set(upper.seeds) & set(lower.seeds), key=str)
    if len(common) < 2:
        return Estimate(ratio, seeds=1, note="fewer than two common seeds: no interval")
    a, b = (_capacity_samples(c.with_seeds(common), threshold, name) for c in (upper, lower))
    low, high = interval(a / b)
    return Estimate(ratio, float(low), float(high), len(common))


def _capacity_samples(curve, threshold, name):
    curves = resample_weights(len(curve.seeds), name) @ curve.values.T
    return np.clip(crossings(curve.rates, curves, threshold), curve.rates[0], curve.rates[-1])


def _no_crossing(curve, threshold, value):
    if value < 0:
        where = f"already above {threshold:g} s/token at the lowest swept rate, {curve.rates[0]:g}"
    else:
        where = f"still below {threshold:g} s/token at the highest swept rate, {curve.rates[-1]:g}"
    return where + " req/s"
