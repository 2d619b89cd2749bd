"""The whole paper suite at reduced length: in builds with checks the ledger is asserted at every step."""

import pathlib
import unittest

from command import CommandTest

SUITE = sorted(
    (pathlib.Path(__file__).parents[2] / "bench" / "experiments" / "paper").glob("*.yaml")
)


class PaperSuiteTest(CommandTest):
    def test_every_point_runs(self):
        self.run_good("run", *map(str, SUITE), "--reduced", "0.01", "--out", "out")
        rows = self.rows("out").values()
        figures = {row["point"]["figure"] for row in rows}
        self.assertEqual(
            figures, {"2", "12", "13", "14", "15", "16", "17", "18b", "19a", "19b"}
        )
        for row in rows:
            if row["config"]["kind"] != "serve":
                continue
            requests = row["metrics"]["requests"]
            self.assertEqual(requests["arrived"], requests["finished"] + requests["rejected"])
            if row["metrics"]["window_steps"] > 0:
                self.assertAlmostEqual(sum(row["metrics"]["memory"].values()), 1, places=9)


if __name__ == "__main__":
    unittest.main()
