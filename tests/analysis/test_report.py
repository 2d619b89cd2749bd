import contextlib
import csv
import io
import os
import re
import tempfile
import unittest
from html.parser import HTMLParser

import fake_rows
from analysis import figures, report, results, tables

VOID = {"meta", "img", "link", "br"}


class Page(HTMLParser):
    """Collects ids, links and anything the page would fetch."""

    def __init__(self):
        super().__init__()
        self.ids, self.links, self.fetched = set(), [], []

    def handle_starttag(self, tag, attributes):
        attributes = dict(attributes)
        if "id" in attributes:
            self.ids.add(attributes["id"])
        if tag == "a":
            self.links.append(attributes["href"])
        for name in ("src", "srcset", "data"):
            if name in attributes and not attributes[name].startswith("data:"):
                self.fetched.append(attributes[name])
        if tag in ("link", "script", "iframe"):
            self.fetched.append(tag)


class Report(unittest.TestCase):
    def setUp(self):
        scratch = tempfile.TemporaryDirectory()
        self.addCleanup(scratch.cleanup)
        self.directory = scratch.name

    def assertHas(self, page, words):
        self.assertTrue(words in page, f"the page lacks: {words}")  # and do not print a megabyte

    def write(self, rows):
        fake_rows.write(self.directory, rows)
        path = report.write_report(self.directory)
        with open(path, encoding="utf-8") as file:
            return file.read()

    def test_the_whole_suite(self):
        text = self.write(fake_rows.suite())
        page = Page()
        page.feed(text)
        self.assertEqual(page.fetched, [], "the page must stand alone")
        for link in page.links:
            self.assertIn(link.removeprefix("#"), page.ids)
        for name in (
            "fig2",
            "fig11",
            "fig12",
            "fig13",
            "fig14",
            "fig15",
            "fig16",
            "fig17",
            "fig18b",
            "fig19a",
            "fig19b",
        ):
            self.assertIn(name, page.ids)
            for kind in ("png", "svg"):
                path = os.path.join(self.directory, "figures", f"{name}.{kind}")
                self.assertGreater(os.path.getsize(path), 10_000, path)
        self.assertHas(text, f"{fake_rows.judged()} numbers within tolerance")
        self.assertHas(text, "Nothing: every judged number is inside its tolerance.")
        self.assertHas(text, "These rows are made up for a test")

    def test_figures_without_rows_say_so(self):
        text = self.write(fake_rows.suite(("2",)))
        sections = dict(re.findall(r'<section id="(\w+)">(.*?)</section>', text, re.S))
        self.assertNotIn("No rows for this figure", sections["fig2"])
        for name in ("fig12", "fig13", "fig15", "fig18b"):
            self.assertIn("No rows for this figure", sections[name])
        self.assertNotIn("No rows for this figure", sections["fig18a"])  # recorded on a GPU
        self.assertRegex(sections["misses"], r"fig13.*not run: 8 numbers are missing")

    def test_an_experiment_of_the_users_own(self):
        rows = [
            fake_rows.row(
                "",
                seed,
                fake_rows.latency_metrics(0.1 * rate, batch_groups=4.0 * rate),
                system=system,
                dataset=dataset,
                request_rate_per_s=rate,
            )
            for seed in (0, 1)
            for system in ("vllm", "orca-max")
            for dataset in ("sharegpt", "alpaca")
            for rate in (1.0, 2.0)
        ]
        for row in rows:
            row["experiment"] = "mine"
        text = self.write(rows)
        self.assertHas(text, '<section id="own-mine">')
        self.assertHas(text, "Results of 16 runs")
        for of_the_paper in ("What missed", "Fig. 11", "Fig. 18a"):
            self.assertFalse(of_the_paper in text, "the paper is no business of this experiment")
        self.assertTrue(os.path.exists(os.path.join(self.directory, "figures", "own-mine.svg")))

    def test_rows_of_two_builds_are_pointed_out(self):
        rows = fake_rows.suite(("2",))
        self.assertFalse("different builds" in self.write(rows))
        rows[0]["build"] = {**rows[0]["build"], "commit": "1111111"}
        self.assertHas(self.write(rows), "These rows come from 2 different builds")

    def test_a_miss_is_listed(self):
        rows = fake_rows.suite(("2",))
        for row in rows:
            if row["point"]["system"] == "orca-max":
                row["metrics"]["memory"]["live"] += 0.05
        sections = dict(re.findall(r'<section id="(\w+)">(.*?)</section>', self.write(rows), re.S))
        self.assertRegex(
            sections["misses"],
            r"fig2/orca-max/token_states.*20\.4.*25\.4.*allowed: 1\.5 % either way",
        )

    def test_same_rows_same_bytes(self):
        self.write(fake_rows.suite(("2", "13")))
        first = self.read_all()
        report.write_report(self.directory)
        self.assertEqual(first, self.read_all())

    def read_all(self):
        found = {}
        for base, _, names in os.walk(self.directory):
            for name in names:
                with open(os.path.join(base, name), "rb") as file:
                    found[os.path.join(base, name)] = file.read()
        return found

    def test_a_bad_directory_is_exit_2_and_one_line(self):
        with contextlib.redirect_stderr(io.StringIO()) as error:
            self.assertEqual(report.main([os.path.join(self.directory, "nowhere")]), 2)
        self.assertEqual(error.getvalue().count("\n"), 1)

    def test_a_directory_that_cannot_be_written_is_exit_2_and_one_line(self):
        self.write(fake_rows.suite(("2",)))
        os.remove(os.path.join(self.directory, "scoreboard.csv"))
        os.mkdir(os.path.join(self.directory, "scoreboard.csv"))
        with contextlib.redirect_stderr(io.StringIO()) as error:
            self.assertEqual(report.main([self.directory]), 2)
        self.assertEqual(error.getvalue().count("\n"), 1)

    def test_figures_beyond_the_paper_appear_with_their_rows(self):
        rows = fake_rows.suite(("2",)) + list(fake_rows.breakeven()) + list(fake_rows.real())
        rows[0]["series"] = {"time_s": [0, 1, 2], "live": [0.1, 0.2, 0.2], "free": [0.9, 0.8, 0.8]}
        text = self.write(rows)
        for name in ("breakeven", "real", "ledger"):
            self.assertHas(text, f'<section id="{name}">')
        self.assertHas(text, "azure2023")


class Figures(unittest.TestCase):
    def test_no_runs_no_figure(self):
        empty = results.Results("nowhere", [])
        for name, (_, draw) in figures.ALL.items():
            if name not in ("fig11", "fig18a"):  # drawn from the length tables, and recorded rows
                self.assertIsNone(draw(empty), name)

    def test_the_length_histogram_has_all_requests(self):
        edges = list(range(0, 2101, 50))
        for column in ("prompt_tokens", "output_tokens"):
            share = figures.lengths.histogram("sharegpt", column, edges)
            self.assertAlmostEqual(share.sum(), 1.0)
            self.assertTrue((share >= 0).all())


class Summary(unittest.TestCase):
    def test_means_over_seeds_with_their_interval(self):
        rows = [
            fake_rows.row(
                "12", s, fake_rows.latency_metrics(v), system="vllm", request_rate_per_s=1.0
            )
            for s, v in ((0, 0.1), (1, 0.2), (2, 0.3))
        ]
        runs = [results.Run(str(i), r) for i, r in enumerate(rows)]
        lines = list(csv.DictReader(io.StringIO(tables.summary_csv(results.Results("x", runs)))))
        latency = next(r for r in lines if r["metric"] == "normalized_latency_s_per_token")
        self.assertEqual(latency["seeds"], "3")
        self.assertAlmostEqual(float(latency["mean"]), 0.2)
        self.assertAlmostEqual(float(latency["p99"]), 0.6)
        self.assertLess(float(latency["mean_low"]), 0.2)
        self.assertGreater(float(latency["mean_high"]), 0.2)


if __name__ == "__main__":
    unittest.main()
