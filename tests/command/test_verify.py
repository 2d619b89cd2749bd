"""`kvstow verify`: the same tokens under every system, and what cannot be verified."""

import json
import pathlib
import unittest

from command import CommandTest

TINY = """name: tiny
title: Computed
model: tiny-qwen3
law: roofline
temperature: 1
workload: {lengths: alpaca, arrivals: all-at-zero, max_requests: 8, over_limit: clip}
sweep: {system: [vllm, orca-max, faster-transformer], executor: [cpu, simulated]}
"""


class VerifyTest(CommandTest):
    def test_every_system_once(self):
        self.write("x.yaml", TINY)
        out = self.run_good("verify", "x.yaml")
        for system in ("vllm", "orca-max", "faster-transformer"):
            self.assertEqual(out.count(f"  {system}, block"), 1)
        self.assertEqual(out.count("8 requests identical"), 3)
        self.assertTrue(out.endswith("the same tokens under every system\n"))

    def test_forced_tokens(self):
        self.write("x.yaml", TINY)
        out = self.run_good("verify", "x.yaml", "--level", "3", "--record", "found.json")
        self.assertEqual(out.count("(level 3: "), 1)
        self.assertEqual(out.count("rows of logits within 0"), 3)
        self.assertTrue(out.endswith("the same logits within the tolerance under every system\n"))
        for entry in json.loads(pathlib.Path(self.path("found.json")).read_text())["verify"]:
            self.assertEqual((entry["level"], entry["compared"], entry["logits"]["beyond"]), (3, 8, 0))
            self.assertEqual(entry["logits"]["rows"], entry["tokens"])

    def test_groups_wider_than_the_ample_batch(self):
        text = TINY.replace("max_requests: 8", "max_requests: 2")
        text = text.replace("[vllm, orca-max, faster-transformer]", "vllm")
        self.write("x.yaml", text + "decoding: parallel\nwidth: 70\npool_bytes: 80000000\n")
        out = self.run_good("verify", "x.yaml", "--level", "3")
        self.assertIn("  2 requests, ", out)

    def test_a_reference_larger_than_memory(self):
        text = TINY.replace("max_requests: 8", "max_requests: 20000")
        text = text.replace("[vllm, orca-max, faster-transformer]", "vllm")
        self.write("x.yaml", text + "decoding: parallel\nwidth: 64\n")
        code, _, err = self.kvstow("verify", "x.yaml", "--level", "3")
        self.assertEqual(code, 2)
        self.assertRegex(err, r"^--level 3: the reference's logits of 20000 requests take \d+ GB of memory, .*\n$")

    def test_a_record_keeps_what_was_found(self):
        self.write("x.yaml", TINY)
        self.run_good("verify", "x.yaml", "--record", "found.json")
        found = json.loads(pathlib.Path(self.path("found.json")).read_text())["verify"]
        self.assertEqual([f["setting"].split(",")[0] for f in found], ["vllm", "orca-max", "faster-transformer"])
        for entry in found:
            self.assertEqual((entry["level"], entry["requests"], entry["compared"]), (2, 8, 8))
            self.assertEqual((entry["ok"], entry["different"], entry["error"]), (True, 0, ""))
            self.assertEqual(entry["tokens"], found[0]["tokens"])
            self.assertGreater(entry["tokens"], 8)
        code, _, err = self.kvstow("verify", "x.yaml", "--record", "gone/found.json")
        self.assertEqual((code, err), (2, "gone/found.json: cannot be written\n"))

    def test_a_model_that_cannot_be_computed(self):
        self.write("x.yaml", TINY.replace("tiny-qwen3", "opt-13b").replace("cpu, ", ""))
        code, _, err = self.kvstow("verify", "x.yaml")
        self.assertEqual(code, 2)
        self.assertEqual(
            err,
            "model opt-13b: executor cpu computes in f32, its dtype is f16\n",
        )


if __name__ == "__main__":
    unittest.main()
