"""One line for each launch of an Nsight Compute report: ncu_table.py DETAILS.csv TABLE.csv

DETAILS.csv is what `ncu --import REPORT --csv --page details` prints."""
import csv
import sys

METRICS = {"Grid Size": "grid", "Block Size": "block", "Registers Per Thread": "registers",
           "Duration": "duration", "Memory Throughput": "memory", "DRAM Throughput": "dram_percent",
           "Compute (SM) Throughput": "compute_percent", "Achieved Occupancy": "occupancy_percent"}
COLUMNS = ("launch", "kernel", *METRICS.values())

with open(sys.argv[1], newline="") as source:
    launches = {}
    for row in csv.DictReader(source):
        line = launches.setdefault(int(row["ID"]), {"launch": row["ID"], "kernel": row["Kernel Name"].split("(")[0]})
        column = METRICS.get(row["Metric Name"])
        # Throughput comes as a share (%) and as a rate; the rate is the one with its unit beside it.
        if column == "memory" and row["Metric Unit"] == "%":
            continue
        if column:
            unit = row["Metric Unit"] if column in ("duration", "memory") else ""
            line[column] = f"{row['Metric Value'].replace(',', '')} {unit}".strip()
with open(sys.argv[2], "w", newline="") as to:
    table = csv.DictWriter(to, COLUMNS, lineterminator="\n")
    table.writeheader()
    table.writerows(launches.values())
