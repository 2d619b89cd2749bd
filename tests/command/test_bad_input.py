"""Bad input: exit code 2, one line on stderr that says where and what, and nothing written."""

import os
import subprocess
import unittest
import unittest.mock

from command import GOOD, KVSTOW, CommandTest

CSV_HEADER = "arrival_s,prompt_tokens,output_tokens\n"
OF_FILE = GOOD.replace("{lengths: alpaca}", "{lengths: file, file: t.csv, arrivals: trace}")


def with_line(text):
    return GOOD + text + "\n"


class BadInputTest(CommandTest):
    def expect(self, experiment, message, trace=None):
        self.write("x.yaml", experiment)
        if trace is not None:
            self.write("t.csv", trace)
        for command in (["run", "x.yaml", "--out", "out"], ["validate", "x.yaml"]):
            code, _, err = self.kvstow(*command)
            self.assertEqual((code, err), (2, message + "\n"))
        self.assertFalse(os.path.exists(self.path("out")))

    def test_the_probe_itself_is_good(self):
        self.write("x.yaml", GOOD)
        self.assertEqual(self.run_good("validate", "x.yaml"), "x.yaml: good, 4 points\n")

    def test_malformed_yaml(self):
        self.expect("name: [a\n", "x.yaml:2: malformed YAML: end of sequence flow not found")
        self.expect("", "x.yaml:1: the file is empty")

    def test_text_in_another_encoding(self):
        with open(self.path("x.yaml"), "w", encoding="latin-1") as file:
            file.write(GOOD.replace("A probe", "Größe"))
        code, _, err = self.kvstow("run", "x.yaml", "--out", "out")
        self.assertEqual((code, err), (2, "x.yaml:2: title: the text is not UTF-8\n"))

    def test_keys(self):
        self.expect(with_line("modle: opt-66b"), "x.yaml:7: unknown key 'modle' (nearest: model)")
        self.expect(with_line("model: opt-66b"), "x.yaml:7: duplicate key 'model'")
        self.expect(GOOD.replace("model: opt-13b\n", ""), "x.yaml:1: missing key 'model'")
        self.expect(GOOD.replace("probe", '""'), "x.yaml:1: name: an experiment needs one")
        self.expect(
            GOOD.replace("{lengths", "{length"),
            "x.yaml:5: unknown key 'length' (nearest: lengths)",
        )

    def test_wrong_units(self):
        self.expect(
            GOOD.replace("duration_s", "duration_min"),
            "x.yaml:4: unknown key 'duration_min' (nearest: duration_s)",
        )
        self.expect(with_line("pool_gb: 12"), "x.yaml:7: unknown key 'pool_gb' (nearest: pool_bytes)")
        self.expect(
            GOOD.replace("duration_s: 20", "duration_s: 20 min"),
            "x.yaml:4: duration_s: '20 min' is not a number (units stand in the key)",
        )

    def test_what_only_a_gpu_can_show(self):
        for setting in ("attribution: true", "profile_steps: [20, 40]"):
            name = setting.split(":")[0]
            self.expect(with_line(setting), f"x.yaml:7: {name}: wants executor cuda")
        self.expect(
            with_line("profile_steps: [20]"),
            "x.yaml:7: profile_steps: two step numbers are wanted: [from, to]",
        )

    def test_a_model_that_cannot_be_computed(self):
        self.expect(
            with_line("executor: cpu"),
            "x.yaml:7: executor: model opt-13b: executor cpu computes in f32, its dtype is f16",
        )
        self.expect(
            with_line("executor: cuda").replace("opt-13b", "opt-66b"),
            "x.yaml:7: executor: model opt-66b: an executor that computes needs its `family` "
            "(opt, llama, qwen3)",
        )
        self.expect(
            with_line("executor: gpo"), "x.yaml:7: executor: unknown executor 'gpo' (nearest: cpu)"
        )
        self.expect(
            with_line("prefix_sharing: whole-blocks").replace("vllm", "orca-max"),
            "x.yaml:7: prefix_sharing: orca-max's allocator buddy shares no prefix between requests",
        )

    def test_an_instruction_set_that_is_not_there(self):
        with unittest.mock.patch.dict(os.environ, {"KVSTOW_ISA": "avx3"}):
            code, _, err = self.kvstow("run", "smoke-cpu", "--out", "out")
        self.assertEqual((code, err.count("\n")), (2, 1), err)
        self.assertRegex(err, "KVSTOW_ISA is 'avx3'; this machine has .*portable$")

    def test_names(self):
        self.expect(
            GOOD.replace("vllm", "vlm"), "x.yaml:6: system: unknown system 'vlm' (nearest: vllm)"
        )
        self.expect(  # one line, and nothing that a terminal obeys
            GOOD.replace("vllm", '"v\\n\\em"'), "x.yaml:6: system: unknown system 'v  m' (nearest: vllm)"
        )
        self.expect(
            GOOD.replace("opt-13b", "opt-31b"),
            "x.yaml:3: model: unknown model 'opt-31b' (nearest: opt-13b)",
        )
        self.expect(
            GOOD.replace("alpaca", "alpacca"),
            "x.yaml:5: lengths: unknown length law 'alpacca' (nearest: alpaca)",
        )
        self.expect(
            with_line("law: maximum"),
            "x.yaml:7: law: unknown step law of a100-40gb 'maximum' (nearest: max)",
        )
        self.expect(
            with_line("device: a100"), "x.yaml:7: device: unknown device 'a100' (nearest: a100-40gb)"
        )

    def test_labels(self):
        self.expect(
            with_line("labels: {of_mine: 1, system: best}"),
            "x.yaml:7: labels: rows have a `system` of their own",
        )

    def test_rates(self):
        for rate, what in (
            ("-1", "-1 is too small; it must be above 0"),
            ("0", "0 is too small; it must be above 0"),
            ("nan", "'nan' is not a finite number"),
            ("inf", "'inf' is not a finite number"),
            ("2/s", "'2/s' is not a number (units stand in the key)"),
        ):
            self.expect(GOOD.replace("[1, 2]", rate), f"x.yaml:6: rate_per_s: {what}")
        self.expect(GOOD.replace("[1, 2]", "[2, 1]"), "x.yaml:6: rate_per_s: rates must ascend")
        self.expect(
            GOOD.replace(", rate_per_s: [1, 2]", ""),
            "x.yaml:5: workload: missing rate: give rate_per_s, here or in the sweep",
        )

    def test_more_than_a_run_can_hold(self):
        for setting in ("repeats", "tensor_parallel", "max_sequences", "top_k"):
            self.expect(
                with_line(f"{setting}: 4294967297"),  # 1, were it cut to 32 bits
                f"x.yaml:7: {setting}: 4294967297 is too large; at most 2147483647",
            )
        self.expect(
            with_line("repeats: 30000"),
            "x.yaml:1: the sweep and its repeats are more than 100000 points",
        )
        self.expect(
            GOOD.replace("[1, 2]", "[1, 1e9]"),
            "x.yaml:5: workload.rate_per_s: some 2e+10 requests exceed a run's 100000000",
        )
        self.expect(
            GOOD.replace("alpaca}", "alpaca, max_requests: 1000000000}"),
            "x.yaml:5: workload.max_requests: 1000000000 exceed a run's 100000000",
        )
        self.expect(
            with_line("pool_bytes: 9223372036854775807"),
            "x.yaml:7: pool_bytes: a pool cannot have more than 2^31 - 1 blocks",
        )

    def test_memory(self):
        self.expect(
            with_line("pool_bytes: 1000000"),
            "x.yaml:7: pool_bytes: 1000000 bytes hold 1 tokens; one request of opt-13b may take "
            "2048 (1677721600 bytes)",
        )
        self.expect(
            with_line("block_tokens: 0"), "x.yaml:7: block_tokens: 0 is too small; at least 1"
        )
        self.expect(
            GOOD.replace("[vllm, orca-max]", "vllm") + "preemption: swap\nhost_pool_bytes: 0\n",
            "x.yaml:8: host_pool_bytes: swapping needs swap space: give at least one block",
        )

    def test_decodings(self):
        self.expect(
            with_line("decoding: beam\nwidth: 0"), "x.yaml:8: width: 0 is too small; at least 1"
        )
        self.expect(
            with_line("decoding: parallel\nwidth: 300"),
            "x.yaml:8: width: 300 sequences of one request exceed orca-max's cap of 256",
        )

    def test_prefix_longer_than_the_pool(self):
        self.expect(
            GOOD.replace("alpaca}", "alpaca, scenario: shared-prefix, prefix_tokens: 20000}"),
            "x.yaml:5: workload: a prefix of 20000 tokens leaves no room; the pool holds 15728, "
            "opt-13b takes 2048",
        )

    def test_traces(self):
        self.expect(
            OF_FILE,
            "x.yaml:5: file: no file 't.csv' beside this one, in $KVSTOW_TRACES or in a traces "
            "folder",
        )
        for trace, message in (
            ("", "t.csv: is empty"),
            (CSV_HEADER, "t.csv: has no requests"),
            (CSV_HEADER + "0,10\n", "t.csv:2: 2 columns, but the header has 3"),
            (CSV_HEADER + "0,10,5\n1,10", "t.csv:3: 2 columns, but the header has 3"),
            (
                CSV_HEADER + "5,10,5\n1,10,5\n",
                "t.csv:3: arrival 1 s is before the previous row's 5 s",
            ),
            (
                CSV_HEADER + "0,3000,5\n",
                "t.csv:2: prompt 3000 + output 5 = 3005 tokens exceed the limit of 2048 "
                "(over_limit: drop or clip admits such traces)",
            ),
        ):
            self.expect(OF_FILE, message, trace)

    def test_what_only_the_drawn_requests_show(self):
        for experiment, message in (
            (with_line("kind: swap").replace("[1, 2]", "1e-9"), "kind swap: the workload has no request to preempt"),
            (with_line("prefix_tokens: 2000").replace("alpaca}", "alpaca, scenario: shared-prefix}"),
             "workload.lengths: request 0: prompt 22 + output 136 = 158 tokens exceed the limit of 48 "
             "(over_limit: drop or clip admits such traces)"),
        ):
            self.write("x.yaml", experiment)
            code, _, err = self.kvstow("run", "x.yaml", "--out", "out")
            self.assertEqual((code, err), (2, f"x.yaml: {message}\n"))
            self.assertFalse(os.path.exists(self.path("out")))

    def test_command_line(self):
        for arguments, message in (
            (["runn", "x"], "kvstow: unknown command 'runn' (nearest: run)"),
            (["run", "smok"], "smok: no such file or experiment (nearest: smoke)"),
            (["list", "modls"], "list: unknown kind 'modls' (nearest: models)"),
            (["run", "smoke", "--reduced", "0"], "--reduced: must be above 0 and at most 1"),
        ):
            code, _, err = self.kvstow(*arguments)
            self.assertEqual((code, err), (2, message + "\n"))

    def test_files_that_cannot_be_read(self):
        code, _, err = self.kvstow("validate", "/proc/self/mem")  # a regular file, all errors
        self.assertEqual((code, err.count("\n")), (2, 1), err)
        self.assertIn("Input/output error", err)

    def test_output_that_cannot_be_written(self):
        self.write("x.yaml", GOOD)
        for arguments in (["list"], ["--help"], ["--version"], ["plan", "x.yaml"], ["validate", "x.yaml"],
                          ["run", "x.yaml"], ["list", "experiments"]):
            with open("/dev/full", "w") as full:
                code, _, err = self.kvstow(*arguments, stdout=full)
            self.assertEqual(code, 2)
            self.assertRegex(err, r"\Akvstow: .*: No space left on device\n\Z")
        self.assertEqual(len(self.rows("out")), 4)  # are kept
        closed = subprocess.run(["sh", "-c", 'exec "$0" run x.yaml <&- >&- 2>&-', KVSTOW], cwd=self.folder, check=False)
        self.assertEqual(closed.returncode, 2)
        self.assertEqual(len(self.rows("out")), 4)

    def test_too_little_memory(self):
        self.write("x.yaml", GOOD.replace("[1, 2]", "4000").replace("duration_s: 20", "duration_s: 20\nrecords: true"))
        limited = ["sh", "-c", 'ulimit -v 100000; exec "$0" "$@"', KVSTOW]
        if subprocess.run([*limited, "--version"], capture_output=True, check=False).returncode != 0:
            self.skipTest("this build needs more to begin with")
        done = subprocess.run([*limited, "run", "x.yaml", "--jobs", "1"], cwd=self.folder,
                              capture_output=True, text=True, check=False)
        self.assertEqual((done.returncode, done.stderr), (2, "kvstow: this machine has not enough memory\n"))

    def test_report(self):
        code, _, err = self.kvstow("report", "nowhere")
        self.assertEqual(code, 2)
        # Its Python may lack what the report needs, and need not be the one that runs this.
        self.assertRegex(err, r"\Areport: (nowhere: no such directory|.*No module named '\w+'.*)\n\Z")


if __name__ == "__main__":
    unittest.main()
