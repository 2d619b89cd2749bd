import csv
import json
import pathlib
import shutil
import subprocess
import sys
import tempfile
import unittest

from analysis import kernels

ROOT = pathlib.Path(kernels.ROOT)
RECORDED = ROOT / "results/h200"
WRITTEN = ("scoreboard.csv", "kernel_block_curve.yaml")


def write_scoreboard(folder):
    script = ROOT / "bench/kernels_cuda/scoreboard.py"
    subprocess.run([sys.executable, "-B", str(script), str(folder)], check=True)


class Recorded(unittest.TestCase):
    def test_the_scoreboard_is_what_its_script_makes_of_the_rows(self):
        with tempfile.TemporaryDirectory() as scratch:
            folder = pathlib.Path(scratch) / "h200"
            shutil.copytree(RECORDED, folder)
            for name in WRITTEN:
                (folder / name).unlink()
            write_scoreboard(folder)
            for name in WRITTEN:
                self.assertEqual((folder / name).read_text(), (RECORDED / name).read_text(), name)

    def test_without_rows_nothing_is_measured(self):
        with tempfile.TemporaryDirectory() as folder:
            write_scoreboard(folder)
            with open(pathlib.Path(folder) / "scoreboard.csv", encoding="utf-8") as file:
                lines = list(csv.DictReader(file))
        self.assertGreater(len(lines), 100)
        self.assertEqual({line["measured"] for line in lines}, {"not measured"})

    def test_a_measurement_that_is_not_there_ends_in_one_line(self):
        with tempfile.TemporaryDirectory() as scratch:
            kept = pathlib.Path(scratch) / "kept"
            kept.write_text("what was recorded before")
            torn = pathlib.Path(scratch) / "torn.json"
            torn.write_text('{"benchmarks": [')
            gone = pathlib.Path(scratch) / "gone.json"
            for script, given in (("record.py", "{in_} {out}"), ("record_tests.py", "{out} cuda={in_}"),
                                  ("record_verify.py", "{out} {in_}"),
                                  ("record_engine.py", "{out} no_run --ceilings {in_}")):
                for measured, why in ((gone, "No such file or directory"), (torn, "not JSON")):
                    arguments = given.format(in_=measured, out=kept).split()
                    path = ROOT / "bench/kernels_cuda" / script
                    done = subprocess.run([sys.executable, "-B", path, *arguments], capture_output=True, text=True)
                    self.assertEqual(done.returncode, 2, script)
                    self.assertRegex(done.stderr, rf"^{measured}\S*: {why}\n$")
            self.assertEqual(kept.read_text(), "what was recorded before")

    def test_rows_of_both_lengths_of_launches_are_not_recorded(self):
        with tempfile.TemporaryDirectory() as scratch:
            measured, kept = pathlib.Path(scratch) / "measured.json", pathlib.Path(scratch) / "kept.json"
            for second, code, why in ((0.76, 0, ""), (0.58, 2, "launches of two lengths, 0.58 and 0.76 us")):
                rows = [{"name": "a", "read_empty_us": 0.75, "empty_us": 0.76},
                        {"name": "b", "read_empty_us": 0.76, "empty_us": second}]
                measured.write_text(json.dumps({"context": {}, "benchmarks": rows}))
                done = subprocess.run([sys.executable, "-B", ROOT / "bench/kernels_cuda/record.py", measured, kept],
                                      capture_output=True, text=True)
                self.assertEqual((done.returncode, why in done.stderr), (code, True))
                self.assertEqual([r["name"] for r in json.loads(kept.read_text())["benchmarks"]], ["a", "b"])


if __name__ == "__main__":
    unittest.main()
