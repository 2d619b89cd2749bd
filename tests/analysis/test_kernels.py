import unittest

import yaml
from analysis import kernels


class Kernels(unittest.TestCase):
    def test_the_a100s_borrowed_curves_are_the_measured_ones(self):
        with open(kernels.A100, encoding="utf-8") as file:
            laws = yaml.safe_load(file)["laws"]
        for law, dataset in (("max-h200-curve", "sharegpt"), ("max-h200-curve-short", "alpaca")):
            measured = kernels.block_curve("paper-2023", dataset)
            self.assertEqual(laws[law]["kv_time_by_block"], measured)
            self.assertEqual(measured[16], 1)

    def test_every_point_of_fig_18a_is_recorded(self):
        for batch in kernels.BATCHES:
            for body in ("paper-2023", "faster-transformer", "ours"):
                times = kernels.latencies(body, batch)
                self.assertEqual(len(times), 3)
                self.assertGreater(min(times), 0)


if __name__ == "__main__":
    unittest.main()
