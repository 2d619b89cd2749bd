import csv
import io
import unittest

from analysis import attribution
from analysis.results import Run


def row(model, sequences, attributed=True):
    raw = {
        "schema": 1,
        "point": {"model": model, "device": "h200"},
        "metrics": {"output_throughput_tokens_per_s": 1000},
        "config": {"system": {"max_sequences": sequences}},
        "build": {"commit": "abc"},
    }
    if attributed:
        raw["attribution"] = {
            "steps": 9,
            "step_us": 100.0,
            "scale": 0.9,
            "mark_us": 1.5,
            "device_us": {"attention": 60.0, "idle": 1.0, "linear": 30.0, "unexplained": 9.0},
            "host_us": {"scheduler": 5.0, "wait": 95.0, "unexplained": 0.0},
        }
    return Run("x.json", raw)


class Attribution(unittest.TestCase):
    def setUp(self):
        runs = [row("m", 256), row("m", 16), row("m", 16, attributed=False)]
        self.rows = list(csv.DictReader(io.StringIO(attribution.to_csv(attribution.lines(runs)))))

    def test_points_by_batch_parts_longest_first_the_residual_last(self):
        parts = [(r["sequences"], r["side"], r["part"]) for r in self.rows]
        one = [("device", "attention"), ("device", "linear"), ("device", "idle"),
               ("device", "unexplained"), ("host", "wait"), ("host", "scheduler"),
               ("host", "unexplained")]
        self.assertEqual(parts, [("16", *p) for p in one] + [("256", *p) for p in one])

    def test_shares_of_a_side_add_up(self):
        for side in ("device", "host"):
            shares = [float(r["share"]) for r in self.rows[:7] if r["side"] == side]
            self.assertAlmostEqual(sum(shares), 1)


if __name__ == "__main__":
    unittest.main()
