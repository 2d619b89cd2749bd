#!/usr/bin/env python3
"""Keeps what GPU tests found: record_tests.py TO.csv BUILD=GTEST.json...

    cuda_kernels_test --gtest_output=json:sm90.json    (KVSTOW_TEST_SHAPES=500 KVSTOW_TEST_PLANS=10000)

BUILD names the preset. A row for each test: what it says of itself (shapes, plans, worst errors) stands in
`properties`; a row `all` a build counts them.
"""
import csv
import sys

from recorded import measured, refuse

FIELDS = "build,test,result,seconds,properties".split(",")
OF_GTEST = {"name", "file", "line", "status", "result", "timestamp", "time", "classname", "type_param", "value_param",
            "failures", "skipped"}

if len(sys.argv) < 3 or not all("=" in argument for argument in sys.argv[2:]):
    refuse(__doc__.splitlines()[0])
# All of them first: a report that is missing leaves what was kept before as it is.
builds = [argument.split("=", 1) for argument in sys.argv[2:]]
reports = [(build, measured(path, "testsuites", "time")) for build, path in builds]
with open(sys.argv[1], "w", newline="") as out:
    writer = csv.DictWriter(out, FIELDS, lineterminator="\n")
    writer.writeheader()
    for build, whole in reports:
        ran = failed = 0
        for test in (t for suite in whole["testsuites"] for t in suite["testsuite"]):
            skipped = test["result"] in ("SKIPPED", "SUPPRESSED")
            result = "skipped" if skipped else "failed" if test.get("failures") else "passed"
            ran += not skipped
            failed += result == "failed"
            properties = {k: v for k, v in test.items() if k not in OF_GTEST}
            writer.writerow({"build": build, "test": f"{test['classname']}.{test['name']}", "result": result,
                             "seconds": test["time"].rstrip("s"),
                             "properties": " ".join(f"{k}={v}" for k, v in properties.items())})
        writer.writerow({"build": build, "test": "all", "result": "failed" if failed or not ran else "passed",
                         "seconds": whole["time"].rstrip("s"), "properties": f"ran={ran} failed={failed}"})
