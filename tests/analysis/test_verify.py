import contextlib
import csv
import io
import os
import subprocess
import sys
import tempfile
import unittest

import fake_rows
from analysis import results, scoreboard, textio, verify


class Verify(unittest.TestCase):
    def setUp(self):
        scratch = tempfile.TemporaryDirectory()
        self.addCleanup(scratch.cleanup)
        self.directory = scratch.name

    def check(self, rows):
        return verify.findings(fake_rows.in_memory(rows), None)

    def record(self, change=lambda board: board):
        """Writes scoreboard.csv from the rows, changed."""
        board = change(scoreboard.build(results.load(self.directory)))
        textio.write(os.path.join(self.directory, "scoreboard.csv"), scoreboard.to_csv(board))

    def test_passes_on_the_papers_own_numbers(self):
        code, lines = self.check(fake_rows.suite())
        self.assertEqual(code, 0, lines)
        self.assertIn(f"{fake_rows.judged()} within tolerance", lines[-1])

    def test_a_number_out_of_tolerance_fails_with_one_line(self):
        rows = fake_rows.suite()
        for row in rows:
            if row["point"]["figure"] == "2" and row["point"]["system"] == "vllm":
                row["metrics"]["memory"]["live"] -= 0.02
        code, lines = self.check(rows)
        self.assertEqual(code, 1)
        self.assertEqual(len(lines), 2)
        self.assertRegex(
            lines[0], r"^MISS +fig2/vllm/token_states: ours 94.3 %, paper 96.3, difference -2"
        )

    def test_a_missing_row_fails_and_says_why(self):
        rows = [
            r
            for r in fake_rows.suite()
            if not (
                r["point"]["figure"] == "13"
                and r["point"]["system"] == "orca-max"
                and r["point"]["dataset"] == "alpaca"
            )
        ]
        code, lines = self.check(rows)
        self.assertEqual(code, 1)
        self.assertEqual(lines[0], "MISSING fig13/alpaca/orca-max: no number (no runs)")

    def test_a_capacity_beyond_the_sweep_is_missing(self):
        rows = [
            r
            for r in fake_rows.suite()
            if not (
                r["point"]["figure"] == "12"
                and r["point"]["panel"] == "a"
                and r["point"]["system"] == "vllm"
                and r["point"]["request_rate_per_s"] > 1.9
            )
        ]
        code, lines = self.check(rows)
        self.assertEqual(code, 1)
        self.assertIn("still below 0.5 s/token at the highest swept rate, 1.9 req/s", lines[0])

    def test_figure_12_is_judged_as_a_whole(self):
        rows = fake_rows.suite()
        for row in rows:  # one system of one panel far off: named, yet 40 of 42 hold
            point = row["point"]
            if (
                point["figure"] == "12"
                and point["panel"] == "c"
                and point["system"] == "faster-transformer"
            ):
                row["metrics"]["normalized_latency_s_per_token"]["mean"] *= 0.5
        code, lines = self.check(rows)
        self.assertEqual(code, 0, lines)
        self.assertTrue(lines[0].startswith("named   fig12/c/opt-175b/sharegpt/"), lines)

    def test_too_many_outliers_fail(self):
        rows = fake_rows.suite()
        for row in rows:
            if row["point"]["figure"] == "12" and row["point"]["panel"] == "a":
                row["metrics"]["normalized_latency_s_per_token"]["mean"] *= 10
        code, lines = self.check(rows)
        self.assertEqual(code, 1)
        self.assertTrue(any("rule/fig12/within_25_percent" in line for line in lines))

    def test_a_recorded_scoreboard_is_judged_and_compared_with_the_rows(self):
        fake_rows.write(self.directory, fake_rows.suite())
        self.record()
        self.assertEqual(verify.verify(self.directory)[0], 0)

        self.record(lambda board: [r for r in board if r["item"] != "fig2/vllm/token_states"])
        code, lines = verify.verify(self.directory)
        self.assertEqual(code, 1)
        self.assertIn("MISSING fig2/vllm/token_states: no number (not in scoreboard.csv)", lines)

        def flatter(board):
            return [{**r, "ours": 30.0} if r["item"] == "fig13/sharegpt/vllm" else r for r in board]

        self.record(flatter)
        code, lines = verify.verify(self.directory)
        self.assertEqual(code, 1)
        self.assertIn(
            "STALE   fig13/sharegpt/vllm: scoreboard.csv says 30.0, the result rows give 30.42",
            lines,
        )

    def test_a_scoreboard_alone_is_enough(self):
        fake_rows.write(self.directory, fake_rows.suite())
        self.record()
        for name in os.listdir(os.path.join(self.directory, "rows")):
            os.remove(os.path.join(self.directory, "rows", name))
        os.rmdir(os.path.join(self.directory, "rows"))
        self.assertEqual(verify.verify(self.directory)[0], 0)

    def test_a_bad_directory_is_exit_2_and_one_line(self):
        for path in (os.path.join(self.directory, "nowhere"), self.directory):
            error = io.StringIO()
            with contextlib.redirect_stderr(error):
                self.assertEqual(verify.main([path]), 2)
            self.assertEqual(error.getvalue().count("\n"), 1)

    def test_output_that_cannot_be_written_is_exit_2_and_one_line(self):
        fake_rows.write(self.directory, fake_rows.suite())
        with open("/dev/full", "w") as full:
            done = subprocess.run([sys.executable, "-B", verify.__file__, self.directory], stdout=full,
                                  stderr=subprocess.PIPE, text=True, check=False)
        self.assertEqual((done.returncode, done.stderr), (2, "verify-paper: [Errno 28] No space left on device\n"))

    def test_a_file_that_cannot_be_written_is_named_and_nothing_is_left(self):
        path = os.path.join(self.directory, "there")
        os.mkdir(path)
        with self.assertRaisesRegex(OSError, path):
            textio.write(path, "content")
        self.assertEqual(os.listdir(self.directory), ["there"])

    def test_a_scoreboard_without_a_column_is_exit_2(self):
        with open(os.path.join(self.directory, "scoreboard.csv"), "w", encoding="utf-8") as file:
            csv.writer(file).writerows([["figure", "item"], ["2", "fig2/vllm/token_states"]])
        with contextlib.redirect_stderr(io.StringIO()) as error:
            self.assertEqual(verify.main([self.directory]), 2)
        self.assertIn("scoreboard.csv:2: no column 'unit'", error.getvalue())


if __name__ == "__main__":
    unittest.main()
