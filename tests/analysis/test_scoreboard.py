import json
import os
import tempfile
import unittest

import fake_rows
from analysis import paper, results, scoreboard


def board_of(rows):
    return scoreboard.build(fake_rows.in_memory(rows))


class Targets(unittest.TestCase):
    def test_values_are_those_of_the_paper_tables(self):
        by_item = {t.item: t.paper for t in paper.targets()}
        for r in paper.table("fig12_capacity"):
            for system in paper.SYSTEMS:
                item = "/".join(
                    [
                        "fig12",
                        r["panel"],
                        r["model"],
                        r["dataset"],
                        r["threshold_s_per_token"],
                        system,
                    ]
                )
                self.assertEqual(by_item.get(item), paper.number(r[system.replace("-", "_")]), item)
        for r in paper.table("fig2_memory_percent"):
            for name in ("token_states", "reservation", "internal", "external_and_others"):
                self.assertEqual(by_item[f"fig2/{r['system']}/{name}"], paper.number(r[name]))
        for r in paper.table("fig15_sharing_saving_percent"):
            item = f"fig15/alpaca/{r['decoding']}/{r['width']}"
            self.assertEqual(by_item[item], float(r["saving_percent"]))

    def test_every_capacity_of_figure_12_is_listed(self):
        self.assertEqual(sum(t.judge == "suite" for t in paper.targets()), 42)

    def test_items_are_unique(self):
        items = [t.item for t in paper.targets()]
        self.assertEqual(len(items), len(set(items)))


class Build(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.board = board_of(fake_rows.suite())
        cls.by_item = {row["item"]: row for row in cls.board}

    def test_has_a_row_for_every_item(self):
        judged_law = [r["item"] for r in self.board if "/law=" not in r["item"]]
        self.assertEqual(judged_law, [t.item for t in paper.targets() if not t.is_rule])

    def test_gives_back_the_numbers_the_rows_were_made_from(self):
        # 0.005 req/s or 2.5 %: the digitised points and the digitised crossings are rounded apart.
        for row in self.board:
            if row["paper"] is not None:
                allowed = 0.2 if row["unit"] == "%" else max(0.005, 0.025 * row["paper"])
                if row["item"].startswith("fig18b/"):
                    continue  # memory alone is made up
                self.assertLessEqual(abs(row["difference"]), allowed, row["item"])

    def test_difference_is_ours_minus_paper(self):
        row = self.by_item["fig2/orca-max/external_and_others"]
        self.assertAlmostEqual(row["difference"], row["ours"] - 8.9)

    def test_csv_reads_back(self):
        with tempfile.TemporaryDirectory() as directory:
            path = os.path.join(directory, "scoreboard.csv")
            with open(path, "w", encoding="utf-8") as file:
                file.write(scoreboard.to_csv(self.board))
            again = scoreboard.read(path)
        self.assertEqual([r["item"] for r in again], [r["item"] for r in self.board])
        self.assertAlmostEqual(again[0]["ours"], self.board[0]["ours"], places=4)

    def test_header_is_the_agreed_one(self):
        self.assertEqual(
            scoreboard.to_csv([]), "figure,item,unit,paper,ours,ci_low,ci_high,difference\n"
        )


class Rules(unittest.TestCase):
    def test_other_laws_get_their_own_rows(self):
        rows = [*fake_rows.fig12(), *fake_rows.fig12(law="linear", scale=2.0)]
        board = {r["item"]: r["ours"] for r in board_of(rows)}
        item = "fig12/a/opt-13b/sharegpt/0.5/vllm"
        self.assertLess(board[item + "/law=linear"], board[item])

    def test_refined_rates_leave_the_capacity_alone(self):
        rows = list(fake_rows.fig12())
        extra = [
            fake_rows.row(
                "12",
                seed,
                fake_rows.latency_metrics(0.9),
                panel="a",
                model="opt-13b",
                dataset="sharegpt",
                system="vllm",
                request_rate_per_s=1.83,
                refined=True,
            )
            for seed in fake_rows.SEEDS
        ]
        item = "fig12/a/opt-13b/sharegpt/0.5/vllm"
        plain = {r["item"]: r["ours"] for r in board_of(rows)}
        finer = {r["item"]: r["ours"] for r in board_of(rows + extra)}
        self.assertEqual(plain[item], finer[item])


class Loading(unittest.TestCase):
    def test_bad_directories_say_what_is_wrong(self):
        row = {"schema": 1, "point": {}, "metrics": {}, "trace": {}, "build": {}}
        with tempfile.TemporaryDirectory() as directory:
            for prepare, words in (
                (lambda: None, "no rows/ in it"),
                (lambda: os.mkdir(os.path.join(directory, "rows")), "no rows"),
                (lambda: self._write(directory, "a.json", "{\n oops"), "a.json:2: not JSON"),
                (
                    lambda: self._write(directory, "a.json", json.dumps({"schema": 7})),
                    "schema is 7",
                ),
                (
                    lambda: self._write(
                        directory, "a.json", json.dumps({"schema": 1, "point": {}})
                    ),
                    "no object 'metrics'",
                ),
                (lambda: self._write(directory, "a.json", json.dumps({**row, "build": 5})), "no object 'build'"),
                (
                    lambda: self._write(directory, "a.json", json.dumps({**row, "point": {"width": [1]}})),
                    "a.json: point.width is neither a text nor a number",
                ),
                (
                    lambda: (self._write(directory, "a.json", json.dumps(row)),
                             self._write(directory, "../manifest.json", "[]")),
                    "manifest.json: not of `kvstow run`",
                ),
            ):
                prepare()
                with self.assertRaisesRegex(results.ResultsError, words):
                    results.load(directory)

    @staticmethod
    def _write(directory, name, text):
        with open(os.path.join(directory, "rows", name), "w", encoding="utf-8") as file:
            file.write(text)

    def test_figure_names(self):
        for name, figure, panel in (
            ("12", "12", ""),
            ("fig12c", "12", "c"),
            ("Fig 18a", "18a", ""),
            ("fig19a", "19a", ""),
            (2, "2", ""),
        ):
            run = results.Run("x", {"point": {"figure": name}, "metrics": {}})
            self.assertEqual((run.figure, run.get("panel")), (figure, panel))


if __name__ == "__main__":
    unittest.main()
