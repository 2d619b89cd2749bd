#!/usr/bin/env python3
"""Where a run's time lies over its floor: floor_gap.py results/h200/engine_nano.json

Per model and group of steps (prompts, decodes by their rows) the medians over the runs that record_engine.py
kept: steps, milliseconds a step, those of the floor, the floor's share, and the part of the whole run's time
over its floor.
"""
import argparse
import pathlib
import statistics

from recorded import engine_runs


def order(name):
    return (0, 0) if name == "prompts" else (1, int(name.split("-")[0]))


def lines(runs):
    yield "| rows of a step | steps | ms | floor, ms | share | of what is over the floor |"
    yield "|---|---|---|---|---|---|"
    for name in sorted({name for r in runs for name in r["by_rows"]}, key=order):
        groups = [(r["by_rows"][name], r) for r in runs if name in r["by_rows"]]

        def median(of):
            return statistics.median(of(g, r) for g, r in groups)

        steps = median(lambda g, _: g["steps"])
        ms = median(lambda g, _: g["time_s"] / g["steps"] * 1e3)
        floor_ms = median(lambda g, _: g["floor_s"] / g["steps"] * 1e3)
        share = median(lambda g, _: g["floor_s"] / g["time_s"])
        over = median(lambda g, r: (g["time_s"] - g["floor_s"]) / (r["step_time_s"] - r["floor_s"]))
        yield f"| {name} | {steps:.0f} | {ms:.2f} | {floor_ms:.2f} | {share:.1%} | {over:.1%} |"


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("runs", type=pathlib.Path)
    path = parser.parse_args().runs
    runs = [r for r in engine_runs(path) if "by_rows" in r]
    if not runs:
        parser.error(f"{path}: no run with a floor by rows; record_engine.py --ceilings keeps it")
    for model in sorted({r["model"] for r in runs}):
        print(f"{model}:\n")
        print("\n".join(lines([r for r in runs if r["model"] == model])))
        print()


if __name__ == "__main__":
    main()
