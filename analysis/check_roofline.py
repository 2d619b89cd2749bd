#!/usr/bin/env python3
"""Compares the roofline laws of bench/devices with operator times measured by others.

    python3 analysis/check_roofline.py PROFILES_DIR

PROFILES_DIR holds vidur_linear_a100_h100.csv (ms per layer without attention, one GPU's shard) and
vidur_attention_a100_llama2-70b_tp2.csv (ms of decode attention). Prints, for each device and regime,
how far the law is from the measurement: the numbers in bench/devices/README.md.
"""
import csv
import statistics
import sys
from pathlib import Path

import yaml

DEVICES = Path(__file__).resolve().parent.parent / "bench" / "devices"
# Parameters of one layer's linear maps: attention projections and gated feed-forward.
LAYER_PARAMETERS = {
    "llama2-7b": 4 * 4096**2 + 3 * 4096 * 11008,
    "internlm-20b": 4 * 5120**2 + 3 * 5120 * 13824,
    "llama2-70b": 2 * 8192**2 + 2 * 8192 * 1024 + 3 * 8192 * 28672,
}
KV_BYTES_PER_TOKEN_70B_TP2 = 2 * 4 * 128 * 2  # K and V of 4 heads of 128, 2 bytes each


def roofline(device):
    """(memory bytes/s while reading weights, flops/s, bytes/s while reading K and V)."""
    profile = yaml.safe_load((DEVICES / f"{device}.yaml").read_text())
    law = profile["laws"]["roofline"]
    bandwidth, flops = float(profile["memory_bytes_per_s"]), float(profile["flops_per_s"])
    return (
        bandwidth * law["weight_read_share"],
        flops * law["compute_share"],
        bandwidth * law["kv_read_share"],
    )


def linear_rows(path, gpu):
    for row in csv.DictReader(path.open()):
        if row["gpu"] != gpu or row["model"] not in LAYER_PARAMETERS:
            continue
        parts = [
            v for k, v in row.items() if k.endswith("_ms") and k != "emb_ms" and v not in ("", None)
        ]
        yield (
            LAYER_PARAMETERS[row["model"]] / int(row["tp"]),
            int(row["num_tokens"]),
            sum(map(float, parts)) * 1e-3,
        )


def report(name, errors):
    errors = sorted(errors)
    magnitude = sorted(map(abs, errors))
    print(
        f"{name:44s} rows {len(errors):5d}  median error {statistics.median(errors):+6.1%}"
        f"  median |error| {statistics.median(magnitude):5.1%}"
        f"  p90 |error| {magnitude[int(0.9 * (len(magnitude) - 1))]:5.1%}"
    )


def main(directory):
    for device, gpu in (("a100-80gb", "a100"), ("h100-80gb", "h100")):
        weights, flops, _ = roofline(device)
        regimes = {
            "1-64 tokens": (1, 64),
            "65-512 tokens": (65, 512),
            "513-4096 tokens": (513, 4096),
        }
        rows = list(linear_rows(directory / "vidur_linear_a100_h100.csv", gpu))
        for regime, (low, high) in regimes.items():
            report(
                f"{device} linear layers, {regime}",
                [
                    max(2 * p / weights, 2 * p * n / flops) / t - 1
                    for p, n, t in rows
                    if low <= n <= high
                ],
            )
    _, _, kv = roofline("a100-80gb")
    rows = [
        r
        for r in csv.DictReader((directory / "vidur_attention_a100_llama2-70b_tp2.csv").open())
        if r["phase"] == "decode"
    ]
    for name, low, high in (("below 16 MB", 0, 16e6), ("from 16 MB", 16e6, 1e15)):
        errors = []
        for row in rows:
            size = int(row["batch"]) * int(row["kv_tokens_per_seq"]) * KV_BYTES_PER_TOKEN_70B_TP2
            if low <= size < high:
                errors.append(size / kv / (float(row["attn_ms"]) * 1e-3) - 1)
        if errors:
            report(f"a100-80gb decode attention, K and V {name}", errors)


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    main(Path(sys.argv[1]))
