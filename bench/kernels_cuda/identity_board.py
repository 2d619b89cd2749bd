"""Issue 6's figures about identity: verify.json, what `kvstow verify` found on the GPU (record_verify.py), and
engine_tests.csv, cuda_engine_test's planted faults and dropped edges (record_tests.py).
"""
from recorded import table, verdicts

EXPERIMENTS = {
    "gpu_verify_same_steps": "identity, level 1 (default mode, the same steps)",
    "gpu_verify": "identity, level 2 (deterministic mode, any pool)",
    "gpu_soak": "identity, level 2, 10,000 requests under constant preemption",
    "gpu_verify_forced": "identity, level 3 (default mode, forced tokens)",
}


def verify(board, entries, source):
    for experiment, name in EXPERIMENTS.items():
        own = [e for e in entries if e["experiment"] == experiment]

        def add(what, unit, target, values, fold=sum):
            board.add(f"{name}: {what}", unit, target, [fold(values)] if own else [None], source)

        add("settings", "settings", "", [1 for _ in own])
        add("settings that broke off or compared nothing", "settings", "<=0",
            [bool(e["error"]) or e["compared"] == 0 for e in own])
        add("requests compared", "requests", ">=20000" if experiment == "gpu_soak" else "", [e["compared"] for e in own])
        add("requests that differ", "requests", "<=0", [e["different"] for e in own])
        add("tokens compared", "tokens", "", [e["tokens"] for e in own])
        add("preemptions", "groups", "<=0" if experiment == "gpu_verify_same_steps" else ">=1",
            [e["preemptions"] for e in own])
        if experiment == "gpu_verify_forced":
            rows = [e["logits"] for e in own]
            add("tokens copied or swapped, bit for bit", "tokens", ">=1",
                [e["copied_tokens"] + e["swapped_tokens"] for e in own])
            tolerance = f"<={min(r['tolerance'] for r in rows):g}" if rows else ""
            add("largest relative L2 of a row of logits", "ratio", tolerance, [r["largest"] for r in rows], max)


def faults(board, tests, source):
    for suite, what, least in (("PlantedFaults.AreCaught/", "planted faults", 16),
                               ("PlantedFaults.AreCaughtWhereTokensAreForced/", "planted faults, level 3", 16),
                               ("DroppedEdges.AreCaught/", "dropped ordering edges", 4),
                               ("DroppedEdges.AreCaughtWhereTokensAreForced/", "dropped ordering edges, level 3", 3)):
        own = [t for t in tests if t["build"] == "cuda" and suite in t["test"]]
        caught = sum(t["result"] == "passed" for t in own)
        board.add(f"identity: {what} that are caught", "faults", f">={least}", [caught] if own else [None], source)
    for build in ("cuda", "cuda-sm80"):
        total = [dict(p.split("=") for p in t["properties"].split())
                 for t in tests if (t["build"], t["test"]) == (build, "all")]
        board.add(f"preset {build}: engine tests failed", "tests", "<=0",
                  [float(t["failed"]) for t in total if float(t["ran"]) > 0] or [None], source)


def identity(board, folder):
    found, tests = folder / "verify.json", folder / "engine_tests.csv"
    verify(board, verdicts(found), found.name)
    faults(board, table(tests), tests.name)
