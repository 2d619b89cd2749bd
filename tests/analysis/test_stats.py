import unittest

import numpy as np

from analysis import stats
from analysis.results import Run


def curve(rates, *by_seed):
    return stats.Curve(
        np.array(rates, dtype=float), tuple(range(len(by_seed))), np.array(by_seed, dtype=float).T
    )


def run(rate, seed, latency):
    return Run(
        "row.json",
        {
            "experiment": "fig12",
            "point": {
                "figure": "12",
                "panel": "a",
                "system": "vllm",
                "request_rate_per_s": rate,
                "seed": seed,
            },
            "metrics": {"normalized_latency_s_per_token": {"mean": latency}},
        },
    )


class Crossings(unittest.TestCase):
    def test_interpolates_between_the_points_around_the_threshold(self):
        found = stats.crossings(np.array([1.0, 2.0, 4.0]), np.array([[0.1, 0.3, 0.7]]), 0.5)
        self.assertAlmostEqual(found[0], 3.0)

    def test_takes_the_first_of_several_crossings(self):
        found = stats.crossings(
            np.array([1.0, 2.0, 3.0, 4.0]), np.array([[0.0, 1.0, 0.0, 1.0]]), 0.5
        )
        self.assertAlmostEqual(found[0], 1.5)

    def test_a_point_on_the_threshold_is_the_crossing(self):
        self.assertAlmostEqual(
            stats.crossings(np.array([1.0, 2.0]), np.array([[0.1, 0.5]]), 0.5)[0], 2.0
        )

    def test_above_from_the_start_and_never_reached(self):
        found = stats.crossings(np.array([1.0, 2.0]), np.array([[0.6, 0.9], [0.1, 0.2]]), 0.5)
        self.assertEqual(found.tolist(), [-np.inf, np.inf])


class Capacity(unittest.TestCase):
    def test_uses_the_mean_over_seeds_and_brackets_it(self):
        estimate = stats.capacity(curve([1, 2], [0.0, 1.0], [0.2, 1.0], [0.1, 1.0]), 0.5, "item")
        self.assertAlmostEqual(estimate.value, 1 + 0.4 / 0.9)
        self.assertLess(estimate.low, estimate.value)
        self.assertGreater(estimate.high, estimate.value)
        self.assertEqual(estimate.seeds, 3)

    def test_no_crossing_is_no_number_and_says_why(self):
        estimate = stats.capacity(curve([1, 2], [0.1, 0.2]), 0.5, "item")
        self.assertIsNone(estimate.value)
        self.assertIn("still below 0.5 s/token at the highest swept rate, 2 req/s", estimate.note)

    def test_ratio_resamples_common_seeds_together(self):
        base = curve([1, 2], [0.0, 1.0], [0.2, 1.2], [0.1, 0.8])
        twice = stats.Curve(base.rates * 2, base.seeds, base.values)
        estimate = stats.capacity_ratio(twice, base, 0.5, "item")
        self.assertAlmostEqual(estimate.value, 2.0)
        self.assertAlmostEqual(estimate.low, 2.0)  # the same seeds scale both: no spread is left
        self.assertAlmostEqual(estimate.high, 2.0)


class Bootstrap(unittest.TestCase):
    def test_same_name_same_interval(self):
        values = list(range(10))
        self.assertEqual(stats.mean_estimate(values, "a"), stats.mean_estimate(values, "a"))

    def test_the_order_of_rows_does_not_matter(self):
        values = [3.0, 1.0, 2.0, 5.0, 4.0, 9.0, 7.0, 8.0, 6.0, 0.0]
        self.assertEqual(
            stats.mean_estimate(values, "x"), stats.mean_estimate(values[::-1], "x")
        )

    def test_few_seeds_are_enumerated(self):
        weights = stats.resample_weights(3, "any")
        self.assertEqual(weights.shape, (27, 3))
        np.testing.assert_allclose(weights.sum(axis=1), 1.0)
        np.testing.assert_allclose(weights.mean(axis=0), 1 / 3)

    def test_interval_covers_the_mean_of_a_normal_sample_about_as_often_as_it_says(self):
        rng = np.random.default_rng(7)
        inside = 0
        for trial in range(200):
            estimate = stats.mean_estimate(rng.normal(size=20), f"trial {trial}")
            inside += estimate.low <= 0.0 <= estimate.high
        # Percentile bootstrap with n = 20 covers about 92.5 %; three standard errors of 200 trials.
        self.assertGreater(inside / 200, 0.925 - 3 * 0.0186)
        self.assertLess(inside / 200, 0.985)

    def test_one_seed_has_no_interval(self):
        estimate = stats.mean_estimate([4.0], "a")
        self.assertEqual((estimate.value, estimate.low, estimate.high), (4.0, None, None))


class CurveOf(unittest.TestCase):
    def test_keeps_the_seeds_that_every_rate_has(self):
        runs = [run(1, 0, 0.1), run(1, 1, 0.3), run(2, 0, 0.5)]
        found = stats.curve_of(runs)
        self.assertEqual(found.seeds, (0,))
        self.assertEqual(found.mean.tolist(), [0.1, 0.5])

    def test_no_runs_no_curve(self):
        self.assertIsNone(stats.curve_of([]))


if __name__ == "__main__":
    unittest.main()
