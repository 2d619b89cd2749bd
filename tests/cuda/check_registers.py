#!/usr/bin/env python3
"""Fails where a kernel spills, takes more registers than recorded, or has its wgmma serialised by
the compiler: no GPU needed.

    tests/cuda/check_registers.py build/cuda             compares with registers.csv beside this file
    tests/cuda/check_registers.py build/cuda --record    writes it anew

Reads what ptxas said when kvstow_kernels_cuda was built (OBJECT.ptxas, kept by
kernels/cuda/keep_report.sh). Every body of kernels/cuda is compared; one that is not in the file yet
only has to be free of spills. Registers depend on the compiler: under another release of the toolkit
than the file's only spills count.
"""
import csv
import json
import pathlib
import re
import subprocess
import sys

RECORD = pathlib.Path(__file__).with_name("registers.csv")
HEADER = ("body", "registers", "spill_bytes")


def objects(build):
    """The objects of kernels/cuda and the compiler they are built with."""
    for entry in json.loads((build / "compile_commands.json").read_text()):
        if "/kernels/cuda/" in entry["file"] and "kvstow_kernels_cuda.dir" in entry["command"]:
            words = entry["command"].split()
            yield build / words[words.index("-o") + 1], next(w for w in words if w.endswith("nvcc"))


def release(nvcc):
    text = subprocess.run([nvcc, "--version"], check=True, capture_output=True, text=True).stdout
    return re.search(r"release (\S+),", text)[1]


def bodies(report):
    """{mangled name: (registers, spilled bytes)} of what ptxas -v wrote."""
    found = {}
    name = spill = None
    for line in report.splitlines():
        if m := re.search(r"Compiling entry function '(\S+)'", line):
            name = m[1]
        elif m := re.search(r"(\d+) bytes spill stores, (\d+) bytes spill loads", line):
            spill = max(map(int, m.groups()))
        elif name and (m := re.search(r"Used (\d+) registers", line)):
            found[name] = int(m[1]), spill
            name = None
    return found


def readable(names):
    """decode_kernel<__half, 128, 8, BlockTableMap> and the like, in the order of `names`."""
    text = subprocess.run(["c++filt"], input="\n".join(names), check=True, capture_output=True,
                          text=True).stdout
    for line in text.splitlines():
        line = re.sub(r"\(anonymous namespace\)::|_GLOBAL__N__\w+::|kvstow::kernels::(cuda::)?", "", line)
        yield re.sub(r"^void |\(.*$", "", re.sub(r"\((?:int|bool|unsigned int|ThinUse|DecodeAhead)\)", "", line))


def recorded():
    lines = RECORD.read_text().splitlines()
    return lines[0].removeprefix("# nvcc "), {
        row["body"]: (int(row["registers"]), int(row["spill_bytes"])) for row in csv.DictReader(lines[1:])}


def findings(found, limits, same_compiler):
    """What is worse than recorded, a line each."""
    wrong = [f"{name} is recorded and no longer there" for name in limits if name not in found]
    for name, (registers, spill) in found.items():
        allowed, known_spill = limits.get(name, (255, 0))
        if spill > known_spill:
            wrong.append(f"{name} spills {spill} bytes ({known_spill} recorded)")
        if registers > allowed and same_compiler:
            wrong.append(f"{name} takes {registers} registers ({allowed} recorded)")
    return wrong


def main():
    build = pathlib.Path(sys.argv[1])
    built = list(objects(build))
    compiler = release(built[0][1])
    report = "".join(o.with_name(o.name + ".ptxas").read_text() for o, _ in built)
    found = bodies(report)
    found = dict(sorted(zip(readable(found), found.values())))
    if "--record" in sys.argv:
        with RECORD.open("w", newline="") as out:
            out.write(f"# nvcc {compiler}\n")
            writer = csv.writer(out, lineterminator="\n")
            writer.writerow(HEADER)
            writer.writerows((name, *numbers) for name, numbers in found.items())
        print(f"{len(found)} bodies recorded in {RECORD.name}")
        return 0
    recorded_by, limits = recorded()
    wrong = findings(found, limits, compiler == recorded_by)
    wrong += [line for line in report.splitlines() if "Performance Loss" in line]
    new = [name for name in found if name not in limits]
    print(f"{len(found)} bodies, {len(new)} not recorded, nvcc {compiler} (recorded with {recorded_by})")
    if wrong:
        print(*wrong, "if that is meant: make cuda-record", sep="\n", file=sys.stderr)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
