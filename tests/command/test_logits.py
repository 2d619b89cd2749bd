"""`kvstow logits` against the logits that transformers gave (tests/cpu/hf), on the CPU."""

import array
import json
import math
import pathlib
import unittest

from command import CommandTest

MODEL = pathlib.Path(__file__).parents[1] / "cpu/hf/saved-llama-f16"
VOCAB = 48


def expected(name):
    data = (MODEL / "expected.safetensors").read_bytes()
    size = int.from_bytes(data[:8], "little")
    begin, end = json.loads(data[8 : 8 + size])[name]["data_offsets"]
    return array.array("f", data[8 + size + begin : 8 + size + end])


class LogitsTest(CommandTest):
    def logits(self, lines, *options):
        self.write("tokens.txt", "".join(" ".join(str(int(t)) for t in line) + "\n" for line in lines))
        self.run_good("logits", MODEL, "--tokens", "tokens.txt", "--out", "logits.f32",
                      "--executor", "cpu", "--dtype", "f32", *options)
        return pathlib.Path(self.path("logits.f32")).read_bytes()

    def test_prompts_and_decodes_give_what_transformers_gives(self):
        prompt, tokens = expected("prompt"), expected("tokens")
        sequence = [*prompt, *tokens[:64]]
        found = self.logits([sequence[:20], sequence, [7]])
        for options in (["--prompt", "9"], ["--prompt", "30", "--block-tokens", "1"]):
            self.assertEqual(self.logits([sequence[:20], sequence, [7]], *options), found)
        found = array.array("f", found)
        self.assertEqual(len(found), (20 + 73 + 1) * VOCAB)
        # The second sequence from the end of its prompt on.
        found, right = found[28 * VOCAB : 93 * VOCAB], expected("logits")
        error = math.sqrt(sum((a - b) ** 2 for a, b in zip(found, right, strict=True)))
        self.assertLess(error, 1e-5 * math.sqrt(sum(b * b for b in right)))

    def expect(self, message, *options, model=MODEL, tokens="1 2\n"):
        self.write("tokens.txt", tokens)
        words = ["logits", model, "--tokens", "tokens.txt", "--out", "out.f32", *options]
        code, _, err = self.kvstow(*words)
        self.assertEqual((code, err), (2, message + "\n"))

    def test_bad_input(self):
        cpu = ("--executor", "cpu", "--dtype", "f32")
        self.expect("tokens.txt:2: '48' is not a token id below 48", *cpu, tokens="1\n48\n")
        self.expect("tokens.txt:1: 'x' is not a token id below 48", *cpu, tokens="x\n")
        self.expect("tokens.txt:2: no tokens", *cpu, tokens="1\n\n2\n")
        self.expect("tokens.txt: no sequences", *cpu, tokens="")
        self.expect("tokens.txt:1: 257 tokens, but the model has 256 positions", *cpu, tokens="1 " * 257)
        self.expect("--executor: unknown 'cpo' (nearest: cpu)", "--executor", "cpo")
        self.expect("--dtype: unknown 'fp16' (nearest: f16)", "--dtype", "fp16")
        self.expect("--dtype: executor cpu computes in f32, not in bf16", "--executor", "cpu")
        self.expect(f"{MODEL}/config.json: executor cuda has kernels for head_dim 64, 80, 96, 128 and 256, not 8")
        self.expect(f"{MODEL}/config.json: executor cuda has kernels for head_dim 16, 32, ... 256 (f32), not 8",
                    "--dtype", "f32")
        self.expect("gone/config.json: cannot be read", model="gone")


if __name__ == "__main__":
    unittest.main()
