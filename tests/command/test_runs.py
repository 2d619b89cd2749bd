"""Runs: the same bytes whoever runs them, however often they are killed, on however many threads."""

import csv
import fcntl
import json
import os
import pathlib
import re
import signal
import subprocess
import time
import unittest

from command import GOOD, KVSTOW, CommandTest

MANY = GOOD.replace("[1, 2]", "[1, 2, 4, 6, 8, 10, 12, 14]") + "repeats: 3\n"
SEARCH = GOOD.replace("duration_s: 20", "duration_s: 60").replace("[1, 2]", "[2, 3]") + (
    "search: {extend_until_s_per_token: 0.05, refine_s_per_token: 0.05, refine_share: 0.1}\n"
    "repeats: 2\n"
)
POINTS = re.compile(r"(\d+) points in .*\((\d+) found done, (\d+) threads\)")


class RunTest(CommandTest):
    def run_experiment(self, text, out, *options):
        """(points, points found done)."""
        self.write("x.yaml", text)
        found = POINTS.search(self.run_good("run", "x.yaml", "--out", out, *options))
        return int(found.group(1)), int(found.group(2))

    def test_what_is_computed_can_be_predicted(self):
        computed = """name: tiny
title: Computed
model: tiny-qwen3
law: roofline
workload: {lengths: alpaca, arrivals: all-at-zero, max_requests: 8, over_limit: clip}
sweep: {system: [vllm, orca-max], executor: [cpu]}
"""
        self.write("x.yaml", computed)
        self.run_good("run", "x.yaml", "--out", "predicted", "--simulated")
        rows = self.rows("predicted").values()
        self.assertEqual([r["point"]["executor"] for r in rows], ["simulated"] * 2)
        self.write("x.yaml", computed.replace("executor: [cpu]", "executor: [simulated]"))
        self.run_good("run", "x.yaml", "--out", "simulated")
        self.assertEqual(self.rows("predicted"), self.rows("simulated"))
        self.write("x.yaml", computed.replace("[cpu]", "[cpu, simulated]"))
        code, _, err = self.kvstow("run", "x.yaml", "--simulated")
        self.assertEqual((code, err), (2, "x.yaml:1: --simulated: the sweep has executors of its own\n"))

    def test_same_seed_same_bytes_on_any_number_of_threads(self):
        self.assertEqual(self.run_experiment(SEARCH, "a", "--jobs", "1")[1], 0)
        self.run_experiment(SEARCH, "b", "--jobs", "4")
        self.assertEqual(self.rows("a"), self.rows("b"))
        self.assertEqual(self.files("a", "serve"), self.files("b", "serve"))
        one, four = (pathlib.Path(self.path(out), "manifest.json") for out in ("a", "b"))
        self.assertEqual(one.read_bytes(), four.read_bytes())

    def test_search_extends_and_refines_until_crossed(self):
        points, _ = self.run_experiment(SEARCH, "a")
        self.assertGreater(points, 8)
        rows = self.rows("a").values()
        curve = {}
        for row in rows:
            point = row["point"]
            if point["system"] == "orca-max":
                latency = row["metrics"]["normalized_latency_s_per_token"]["mean"]
                curve.setdefault(point["request_rate_per_s"], []).append(latency)
        means = {rate: sum(values) / len(values) for rate, values in sorted(curve.items())}
        self.assertGreater(max(means.values()), 0.05)
        high = next(rate for rate, mean in means.items() if mean >= 0.05)
        low = max(rate for rate in means if rate < high)
        self.assertLessEqual(high - low, 0.1 * high)

    def test_records_hold_every_request_and_every_step(self):
        self.run_experiment(GOOD + "records: true\n", "a")
        for key, row in self.rows("a").items():
            stem = self.path(f"a/records/{pathlib.Path(key).stem}")
            with open(f"{stem}.requests.csv", encoding="utf-8") as file:
                requests = list(csv.DictReader(file))
            with open(f"{stem}.steps.csv", encoding="utf-8") as file:
                steps = list(csv.DictReader(file))
            metrics = row["metrics"]
            self.assertEqual(len(requests), metrics["requests"]["arrived"])
            self.assertEqual(len(steps), metrics["steps"])
            self.assertEqual(sum(int(s["sequences"]) for s in steps), metrics["sequence_steps"])
            classes = ("live", "reserved", "internal", "rounding", "cached", "in_transit", "free")
            totals = {sum(int(s[c]) for c in classes) for s in steps}
            self.assertEqual(len(totals), 1)  # the pool, at every step

    def test_requests_after_the_cut_are_none_of_the_runs(self):
        self.run_experiment(GOOD.replace("duration_s: 20", "duration_s: 5\nstop_s: 5"), "a")
        self.assertEqual(self.run_experiment(GOOD.replace("duration_s: 20", "duration_s: 1e9\nstop_s: 5"), "a"), (4, 4))

    def test_an_experiment_through_a_pipe(self):
        code, _, err = self.kvstow("run", "/dev/stdin", "--out", "piped", stdin=GOOD)
        self.assertEqual(code, 0, err)
        self.run_experiment(GOOD, "a")
        self.assertEqual(self.rows("piped"), self.rows("a"))

    def test_what_is_listed_twice_is_run_once(self):
        text = GOOD.replace("[vllm, orca-max]", "[" + ", ".join(["vllm"] * 8) + "]") + "records: true\n"
        self.assertEqual(self.run_experiment(text, "a", "--jobs", "4"), (16, 14))
        self.assertEqual(len(self.rows("a")), 2)
        self.assertEqual(pathlib.Path(self.path("a/runs.csv")).read_text().count("\n"), 1 + 2)

    def test_finished_points_are_not_run_again(self):
        self.run_experiment(MANY, "a")
        before = self.files("a", "rows")
        self.assertEqual(self.run_experiment(MANY, "a"), (48, 48))
        self.assertEqual(self.files("a", "rows"), before)

    def test_killed_run_resumes_and_loses_nothing(self):
        self.write("x.yaml", MANY)
        rows = os.path.join(self.folder, "killed", "rows")
        with subprocess.Popen(
            [KVSTOW, "run", "x.yaml", "--out", "killed", "--jobs", "1"],
            cwd=self.folder,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        ) as process:
            while process.poll() is None and self.count(rows) < 5:
                time.sleep(0.001)
            process.send_signal(signal.SIGKILL)
        finished = self.count(rows)
        self.assertGreaterEqual(finished, 5)
        with open(os.path.join(rows, "0123456789abcdef.json.1.unfinished"), "w") as half:
            half.write('{"schema"')  # what a kill in the middle of a write leaves
        self.assertEqual(self.run_experiment(MANY, "killed"), (48, finished))
        self.run_experiment(MANY, "whole")
        self.assertEqual(self.rows("killed"), self.rows("whole"))
        self.assertEqual(self.files("killed", "serve"), self.files("whole", "serve"))

    def test_run_that_cannot_be_leaves_folders_as_they_were(self):
        text = GOOD.replace("opt-13b", "tiny-qwen3-gpu").replace("[vllm, orca-max]", "vllm")
        self.run_experiment(GOOD, "full")
        self.write("x.yaml", text + "executor: cuda\nlaw: roofline\n")
        os.makedirs(self.path("there"))
        before = [self.files("full", "rows"), os.listdir(self.path("full"))]
        for out in ("full", "there", "there/not/yet", "nowhere/yet/"):
            code, _, err = self.kvstow("run", "x.yaml", "--out", out)
            if code == 0:
                self.skipTest("there is a GPU")
            self.assertEqual((code, err.count("\n")), (2, 1), err)
        self.assertEqual([self.files("full", "rows"), os.listdir(self.path("full"))], before)
        self.assertEqual(os.listdir(self.path("there")), [])
        self.assertFalse(os.path.exists(self.path("nowhere")))

    def test_run_that_is_stopped_before_its_first_row_leaves_nothing(self):
        self.write("x.yaml", GOOD.replace("duration_s: 20", "duration_s: 200000"))
        for stop in (signal.SIGTERM, signal.SIGHUP):
            with subprocess.Popen([KVSTOW, "run", "x.yaml", "--out", "new/out"], cwd=self.folder) as process:
                while process.poll() is None and not self.catches(process.pid, stop):
                    time.sleep(0.001)
                self.assertTrue(os.path.isdir(self.path("new/out/rows")))
                process.send_signal(stop)
            self.assertEqual(process.returncode, -stop)
            self.assertEqual(os.listdir(self.folder), ["x.yaml"])

    @staticmethod
    def catches(pid, number):
        """Whether the process has a handler for the signal."""
        status = pathlib.Path(f"/proc/{pid}/status").read_text()
        return int(re.search(r"SigCgt:\s*(\w+)", status).group(1), 16) >> (number - 1) & 1

    def test_rows_that_are_not_ours_are_computed_anew(self):
        self.run_experiment(GOOD, "a")
        rows = self.rows("a")
        for name, text in zip(rows, ('{"schema"', "{}", "[1]", json.dumps(rows[list(rows)[0]]))):
            self.write(f"a/rows/{name}", text)
        self.assertEqual(self.run_experiment(GOOD, "a"), (4, 0))
        self.assertEqual(self.rows("a"), rows)
        for name, text in zip(rows, ('{"key": 5}', json.dumps({"key": list(rows)[1][:-5]}))):
            self.write(f"a/rows/{name}", text)
        self.write("a/rows/other.json", '{"experiment": 5}')
        self.assertEqual(self.run_experiment(GOOD, "a"), (4, 2))
        os.remove(self.path("a/rows/other.json"))
        self.assertEqual(self.rows("a"), rows)

    def test_what_took_a_folders_place_stays(self):
        self.write("x.yaml", MANY)
        with subprocess.Popen([KVSTOW, "run", "x.yaml", "--out", "a", "--jobs", "1"], cwd=self.folder,
                              stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
            while process.poll() is None and self.count(self.path("a/rows")) < 1:
                time.sleep(0.001)
            os.rmdir(self.path("a/records"))
            self.write("a/records", "precious")
        self.assertEqual(process.returncode, 0)
        self.assertEqual(pathlib.Path(self.path("a/records")).read_text(), "precious")

    def test_tables_that_are_not_ours_are_kept(self):
        self.write("x.yaml", GOOD)
        others = [("manifest.json", text) for text in ("[]", '{"schema"', '{"experiments": {"x": {"runs": [5]}}}')]
        for i, (name, text) in enumerate(others + [("runs.csv", "mine,own\n1,2\n")]):
            os.mkdir(self.path(f"f{i}"))
            self.write(f"f{i}/{name}", text)
            code, _, err = self.kvstow("run", "x.yaml", "--out", f"f{i}")
            self.assertEqual((code, err), (2, f"f{i}/{name}: not of `kvstow run`: give another folder for results\n"))
            self.assertEqual(os.listdir(self.path(f"f{i}")), [name])
            self.assertEqual(pathlib.Path(self.path(f"f{i}"), name).read_text(), text)

    def test_a_folder_takes_one_run_at_a_time(self):
        self.write("x.yaml", GOOD)
        os.mkdir(self.path("a"))
        other = os.open(self.path("a"), os.O_RDONLY)
        self.addCleanup(os.close, other)
        fcntl.flock(other, fcntl.LOCK_EX)
        code, _, err = self.kvstow("run", "x.yaml", "--out", "a")
        self.assertEqual((code, err), (2, "a: another run is writing its results here\n"))
        self.assertEqual(os.listdir(self.path("a")), [])

    @staticmethod
    def count(folder):
        if not os.path.isdir(folder):
            return 0
        return sum(name.endswith(".json") for name in os.listdir(folder))

    def test_changed_experiment_supersedes_its_rows(self):
        self.run_experiment(GOOD, "a")
        old = set(self.rows("a"))
        self.assertEqual(self.run_experiment(GOOD + "seed: 7\n", "a"), (4, 0))
        self.assertFalse(old & set(self.rows("a")))
        self.assertEqual(set(self.files("a", "superseded")), old)

    def test_row_explains_itself(self):
        self.run_experiment(GOOD, "a")
        for name, row in self.rows("a").items():
            self.assertEqual(row["schema"], 1)
            self.assertEqual(row["key"] + ".json", name)
            self.assertEqual(row["config"]["pool_bytes"], 983 * 16 * 819200)
            self.assertEqual(row["metrics"]["requests"]["finished"], row["trace"]["requests"])
            self.assertAlmostEqual(sum(row["metrics"]["memory"].values()), 1, places=9)
            self.assertTrue(row["build"]["sources"])
        with open(self.path("a/runs.csv"), newline="", encoding="utf-8") as file:
            lines = list(csv.DictReader(file))
        self.assertEqual([line["system"] for line in lines], ["vllm"] * 2 + ["orca-max"] * 2)
        serve = json.loads(next(iter(self.files("a", "serve").values())))
        for key in ("duration", "completed", "request_throughput", "mean_ttft_ms", "p99_itl_ms"):
            self.assertIn(key, serve)

    def test_names_of_any_kind_are_one_cell(self):
        name = 'mine, "the\nbest" – größer'
        text = GOOD.replace("{lengths: alpaca}", f"{{lengths: alpaca, dataset: {json.dumps(name)}}}")
        self.run_experiment(text, "a")
        with open(self.path("a/runs.csv"), newline="", encoding="utf-8") as file:
            lines = list(csv.DictReader(file))
        self.assertEqual([line["dataset"] for line in lines], [name] * 4)
        self.assertEqual({line["seed"] for line in lines}, {"1"})

    def test_impossible_groups_are_rejected_and_counted(self):
        # Six samples at the longest need 768 of OPT-66B's 603 blocks.
        text = GOOD.replace("opt-13b", "opt-66b").replace("[vllm, orca-max]", "vllm")
        text = text.replace(
            "{lengths: alpaca}",
            "{lengths: fixed, prompt_tokens: 1, output_tokens: 2000}",
        )
        self.run_experiment(text + "decoding: parallel\nwidth: 6\n", "a")
        for row in self.rows("a").values():
            requests = row["metrics"]["requests"]
            self.assertEqual(requests["finished"], 0)
            self.assertEqual(requests["rejected"], row["trace"]["requests"])
            self.assertGreater(requests["rejected"], 0)

    def test_any_block_size_is_legal(self):
        text = GOOD.replace("system: [vllm, orca-max]", "system: vllm, block_tokens: [1, 3, 100]")
        self.run_experiment(text, "a")
        self.assertEqual(len(self.rows("a")), 6)

    def test_optional_traces_are_left_out_with_a_line(self):
        text = GOOD.replace("{lengths: alpaca}", "{lengths: file, file: no.csv, optional: true}")
        self.write("x.yaml", text)
        out = self.run_good("validate", "x.yaml")
        self.assertEqual(out, "probe: left out: no file 'no.csv'\nx.yaml: good, 0 points\n")


class InformationTest(CommandTest):
    def test_every_shipped_experiment_is_good(self):
        names = [line.split()[0] for line in self.run_good("list", "experiments").splitlines()[1:]]
        self.assertIn("smoke", names)
        self.assertIn("paper/fig12", names)
        self.assertEqual(self.run_good("validate", *names).count(": good, "), len(names))

    def test_plan_admits_into_real_allocators(self):
        self.write("x.yaml", GOOD)
        out = self.run_good("plan", "x.yaml")
        self.assertIn("819,200 B per token", out)
        self.assertIn("15,728 slots", out)
        self.assertRegex(out, r"vllm +16 +983 ")
        # Every Orca (Max) request holds 2048 slots: seven chunks of 128 blocks in 983.
        self.assertRegex(out, r"orca-max .* 7 +7\n")

    def test_help_teaches(self):
        out = self.run_good("--help")
        self.assertIn("kvstow run smoke", out)
        self.assertIn("verify-paper", out)


if __name__ == "__main__":
    unittest.main()
