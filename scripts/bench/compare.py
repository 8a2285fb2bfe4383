"""Compares two sides' rounds of Google Benchmark programs: scripts/bench_compare.sh's second half.

usage: compare.py FOLDER NAME_A NAME_B [--json FILE]      FOLDER: PROGRAM.SIDE.ROUND.json, SIDE 0 or 1
A case's figure of a round is the median of its repetitions. Verdicts and exit codes: scripts/bench_compare.sh.
"""
import argparse
import json
import math
import os
import re
import statistics
import sys

MICROSECONDS = {"ns": 1e-3, "us": 1.0, "ms": 1e3, "s": 1e6}


def rounds_of(folder, names):
    """{(program, case): ([microseconds of A's rounds], [of B's])}"""
    figures = {}
    for file in sorted(os.listdir(folder)):
        if not file.endswith(".json"):
            continue
        program, side, _, _ = file.rsplit(".", 3)
        text = open(os.path.join(folder, file)).read()
        one_round = {}
        for run in json.loads(text)["benchmarks"] if text.strip() else []:
            if run["run_type"] != "iteration":
                continue
            if run.get("error_occurred"):
                if "no such entry" in run["error_message"]:
                    continue
                fail(f"{program} of {names[int(side)]}: {run['name']}: {run['error_message']}")
            case = re.sub(r"/(iterations:\d+|repeats:\d+|manual_time|real_time)", "", run["name"])
            one_round.setdefault(case, []).append(run["real_time"] * MICROSECONDS[run["time_unit"]])
        for case, values in one_round.items():
            figures.setdefault((program, case), ([], []))[int(side)].append(statistics.median(values))
    return figures


def fail(line):
    print(f"compare.py: {line}", file=sys.stderr)
    sys.exit(4)


def chance(a, b):
    """Two-sided exact p of the Mann-Whitney test: how often equal sides are at least as far apart."""
    wins = sum((x < y) + 0.5 * (x == y) for x in a for y in b)
    least = math.floor(min(wins, len(a) * len(b) - wins))
    # ways[m][u]: orders of the first m values of a among those of b with u pairs (x of a, y of b), y < x
    ways = [[0] * (least + 1) for _ in range(len(a) + 1)]
    ways[0][0] = 1
    for below in range(len(b) + 1):  # values of b below the next ones of a
        for m in range(1, len(a) + 1):
            for u in range(below, least + 1):
                ways[m][u] += ways[m - 1][u - below]
    return min(1.0, 2 * sum(ways[len(a)]) / math.comb(len(a) + len(b), len(a)))


def compare(a, b):
    if not a or not b:
        return {"verdict": "only in B" if b else "only in A"}
    ratio, p = statistics.median(b) / statistics.median(a), chance(a, b)
    return {"verdict": "same" if p >= 0.01 else "slower" if ratio > 1 else "faster", "ratio": ratio, "p": p}


parser = argparse.ArgumentParser()
parser.add_argument("folder")
parser.add_argument("names", nargs=2)
parser.add_argument("--json")
arguments = parser.parse_args()
cases = []
for (program, case), sides in rounds_of(arguments.folder, arguments.names).items():
    entry = {"program": program, "case": case, "a_us": sides[0], "b_us": sides[1]}
    cases.append(entry | compare(*sides))
if not cases:
    fail("no case matches --filter")

width = max(len(c["case"]) for c in cases) + 2
print(f"A = {arguments.names[0]}, B = {arguments.names[1]}; medians in microseconds, in brackets (largest - smallest) / median")
print(f"{'case':<{width}}{'A':>12}{'':>9}{'B':>12}{'':>9}{'B / A':>8}  verdict")
for c in cases:
    columns = ""
    for values in (c["a_us"], c["b_us"]):
        middle = statistics.median(values) if values else None
        columns += f"{middle:>12.1f} ({(max(values) - min(values)) / middle:>5.1%})" if values else f"{'-':>12}{'':>9}"
    ratio = f"{c['ratio']:>8.3f}" if "ratio" in c else f"{'-':>8}"
    print(f"{c['case']:<{width}}{columns}{ratio}  {c['verdict']}")
counts = {v: sum(c["verdict"] == v for c in cases) for v in ("slower", "faster", "same", "only in A", "only in B")}
print(", ".join(f"{n} {verdict}" for verdict, n in counts.items() if n))
if arguments.json:
    with open(arguments.json, "w") as f:
        json.dump({"a": arguments.names[0], "b": arguments.names[1], "cases": cases}, f, indent=1)
sys.exit(1 if counts["slower"] + counts["only in A"] + counts["only in B"] else 0)
