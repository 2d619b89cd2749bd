"""Issue 6's figures of the scoreboard, from the runs that record_engine.py kept.

engine_nano.json: nano-vLLM's benchmark. engine_saturation.json: OPT-13B in overload, on the GPU and by the
simulator under the step law that fit_law.py found in the same steps (`law: measured`).
"""
from identity_board import identity
from paper_board import beside_the_paper
from recorded import engine_runs

MEMORY = ("live", "reserved", "internal", "rounding")


def nano(board, runs, source):
    goals = {"qwen3-0.6b": (">=26000", ">=0.8"), "llama-3-8b": ("", ">=0.75")}
    for model, (rate_goal, share_goal) in goals.items():
        own = [r for r in runs if r["model"] == model]
        rates = [r["metrics"]["output_throughput_tokens_per_s"] for r in own]
        outputs = [r["metrics"]["output_throughput_tokens_per_s"] * r["metrics"]["duration_s"] for r in own]
        shares = [t / o * r["floor_s"] for r, t, o in zip(own, rates, outputs) if "floor_s" in r]
        floors = [o / r["floor_s"] for r, o in zip(own, outputs) if "floor_s" in r]
        name = f"nano-vLLM's benchmark, {model} shape: "
        board.add(name + "output tokens", "1/s", rate_goal, rates, source)
        board.add(name + "floor, output tokens", "1/s", "", floors, source)
        board.add(name + "share of the floor's rate", "ratio", share_goal, shares, source)
        for item, unit, goal, key in (
                ("tokens visible to graph launched, median", "us", "<=60", "host_median_s"),
                ("tokens visible to graph launched, p99", "us", "<=150", "host_p99_s"),
                # By the device's clock, in the first kernel and the last.
                ("device idle between graphs, from the last row drawn to the next graph's first block, median",
                 "us", "<=5", "idle_median_s")):
            board.add(name + item, unit, goal, [r["device_times"][key] * 1e6 for r in own], source)


def saturation(board, runs, source):
    measured = [r for r in runs if r["executor"] == "cuda"]
    predicted = {(r["system"], r["seed"]): r for r in runs if r["executor"] == "simulated"}
    board.add("OPT-13B ShareGPT in overload: classes of the waste ledger over the pool, difference from 1", "ratio",
              "<=1e-05", [abs(sum(r["metrics"]["memory"].values()) - 1) for r in measured], source)
    for system in sorted({r["system"] for r in measured}):
        own = [r for r in measured if r["system"] == system]
        pairs = [(r, predicted[system, r["seed"]]) for r in own if (system, r["seed"]) in predicted]
        batch = [r["metrics"]["batch_groups"] for r in own]
        live = [r["metrics"]["memory"]["live"] * 100 for r in own]
        name = f"OPT-13B ShareGPT in overload, {system}: "
        board.add(name + "mean running requests (Fig. 13)", "requests", "", batch, source)
        board.add(name + "token states (Fig. 2)", "% of pool", "", live, source)
        board.add(name + "running requests over the simulator's, difference from 1", "ratio", "<=0.05",
                  [abs(r["metrics"]["batch_groups"] / s["metrics"]["batch_groups"] - 1) for r, s in pairs],
                  source)
        board.add(name + "largest difference from the simulator's ledger", "points", "<=2",
                  [max(abs(r["metrics"]["memory"][k] - s["metrics"]["memory"][k]) for k in MEMORY) * 100
                   for r, s in pairs], source)


def engine(board, folder):
    board.issue = 6
    identity(board, folder)
    nano(board, engine_runs(folder / "engine_nano.json"), "engine_nano.json")
    saturation(board, engine_runs(folder / "engine_saturation.json"), "engine_saturation.json")
    beside_the_paper(board, folder)
