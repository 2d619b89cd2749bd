"""What the command tests share: running kvstow on experiments written on the spot."""

import json
import os
import pathlib
import subprocess
import tempfile
import unittest

KVSTOW = os.environ["KVSTOW"]

GOOD = """name: probe
title: A probe
model: opt-13b
duration_s: 20
workload: {lengths: alpaca}
sweep: {system: [vllm, orca-max], rate_per_s: [1, 2]}
"""


class CommandTest(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = folder.name

    def path(self, name):
        return os.path.join(self.folder, name)

    def write(self, name, text):
        with open(self.path(name), "w", encoding="utf-8") as file:
            file.write(text)
        return self.path(name)

    def kvstow(self, *arguments, stdout=subprocess.PIPE, stdin=None):
        """Runs it in the test's folder: (exit code, stdout, stderr)."""
        done = subprocess.run(
            [KVSTOW, *arguments], cwd=self.folder, stdout=stdout, stderr=subprocess.PIPE,
            input=stdin, text=True, check=False,
        )
        return done.returncode, done.stdout, done.stderr

    def run_good(self, *arguments):
        code, out, err = self.kvstow(*arguments)
        self.assertEqual(code, 0, err)
        return out

    def rows(self, out):
        """{file name: row without its timing}."""
        folder = os.path.join(self.folder, out, "rows")
        rows = {}
        for name in sorted(os.listdir(folder)):
            with open(os.path.join(folder, name), encoding="utf-8") as file:
                rows[name] = json.load(file)
            del rows[name]["timing"]
        return rows

    def files(self, out, folder):
        """{file name: bytes}."""
        path = pathlib.Path(self.folder, out, folder)
        return {file.name: file.read_bytes() for file in path.iterdir()}
