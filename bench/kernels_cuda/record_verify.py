#!/usr/bin/env python3
"""Keeps what `kvstow verify --record` found: record_verify.py TO.json FOUND.json..."""
import json
import pathlib
import sys

from recorded import measured, refuse

if len(sys.argv) < 3:
    refuse(__doc__.splitlines()[0])
found = [entry for path in sys.argv[2:] for entry in measured(path, "verify")["verify"]]
for entry in found:
    entry["wall_s"] = round(entry["wall_s"], 3)
text = ",\n".join("  " + json.dumps(entry) for entry in found)
pathlib.Path(sys.argv[1]).write_text('{"verify": [\n' + text + "\n]}\n")
