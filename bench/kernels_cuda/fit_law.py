#!/usr/bin/env python3
"""A device's step law from the steps of real runs: fit_law.py MODEL.yaml DEVICE.yaml RUN_DIR [RUN_DIR...]

Prints the law in the form of bench/devices (form max): a step takes

    host + max(weights, flops of its tokens) + K and V of its context + a share for each sequence

host_per_layer and the shares are least squares over steps of decodes only, K and V no faster than a large
read (host and weights cannot be told apart there: the weights are taken at the rate of K and V); then
compute_share is the one with the smallest absolute error over the steps with prompts.
"""
import csv
import gzip
import pathlib
import sys

import numpy as np
import yaml


def load(run):
    for path in sorted(pathlib.Path(run, "records").glob("*.steps.csv*")):
        text = gzip.open(path, "rt") if path.suffix == ".gz" else path.open()
        with text:
            for row in csv.DictReader(text):
                if not int(row["swapped_out_tokens"]) and not int(row["swapped_in_tokens"]):
                    yield (float(row["elapsed_s"]), int(row["prompt_tokens"]), int(row["decode_tokens"]),
                           int(row["kv_read_tokens"]), int(row["sequences"]))


LARGEST_READ_SHARE = 0.98  # of the sheet's bandwidth: 4,701 of 4,800 GB/s, results/h200/floors.json


def fit_decodes(time, kv, sequences, least_per_kv):
    """Seconds for a token of context, for a step, for a sequence; none negative."""
    def least_squares(target, *columns):
        return np.linalg.lstsq(np.stack(columns, axis=1), target, rcond=None)[0]

    one = np.ones_like(time)
    per_kv, fixed, per_sequence = least_squares(time, kv, one, sequences)
    if per_kv < least_per_kv:
        per_kv = least_per_kv
        fixed, per_sequence = least_squares(time - per_kv * kv, one, sequences)
    if per_sequence < 0:
        per_sequence = 0
        per_kv, fixed = least_squares(time, kv, one)
        per_kv = max(per_kv, least_per_kv)
    return per_kv, fixed, per_sequence


def main():
    model = yaml.safe_load(pathlib.Path(sys.argv[1]).read_text())
    device = yaml.safe_load(pathlib.Path(sys.argv[2]).read_text())
    steps = np.array([s for run in sys.argv[3:] for s in load(run)], float)
    element = 4 if model["dtype"] == "f32" else 2
    kv_bytes = 2 * model["layers"] * model["kv_heads"] * model["head_dim"] * element
    weight_bytes = element * model["parameters"]
    peak_read, peak_flops = (float(device[k]) for k in ("memory_bytes_per_s", "flops_per_s"))

    time, prompt, decode, kv, sequences = steps.T
    alone = prompt == 0
    per_kv, fixed, per_sequence = fit_decodes(time[alone], kv[alone], sequences[alone],
                                              kv_bytes / (peak_read * LARGEST_READ_SHARE))
    kv_share = kv_bytes / per_kv / peak_read
    weights = weight_bytes / (peak_read * kv_share)
    host = max(fixed - weights, 0)
    rest = host + per_kv * kv + per_sequence * sequences

    def error(share):
        compute = 2 * model["parameters"] * (prompt + decode) / (peak_flops * share)
        return np.abs(rest + np.maximum(fixed - host, compute) - time)[~alone].mean()

    shares = np.linspace(0.05, 1, 191)
    compute_share = shares[np.argmin([error(s) for s in shares])] if (~alone).any() else 1
    predicted = fixed + per_kv * kv + per_sequence * sequences
    off = np.abs(predicted - time)[alone].mean() / time[alone].mean()
    print(f"# {alone.sum()} steps of decodes, mean absolute error {off:.1%} of the mean step "
          f"({time[alone].mean() * 1e3:.2f} ms); {(~alone).sum()} with prompts, "
          f"{error(compute_share) / time[~alone].mean():.1%}")
    print("form: max")
    print(f"host_per_layer_s: {host / model['layers']:.3g}")
    print(f"host_per_sequence_s: {per_sequence:.3g}")
    print(f"weight_read_share: {min(weight_bytes / (fixed - host) / peak_read, 1):.3g}")
    print(f"compute_share: {compute_share:.3g}")
    print(f"kv_read_share: {min(kv_share, 1):.3g}")


if __name__ == "__main__":
    main()
