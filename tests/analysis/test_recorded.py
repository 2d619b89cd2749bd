import csv
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


if __name__ == "__main__":
    unittest.main()
