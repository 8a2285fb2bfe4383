"""Google Benchmark's JSON on stdin to lines `peer <tab> case <tab> microseconds`, one a repetition.

usage: google_benchmark.py PEER
"""
import json
import sys

MICROSECONDS = {"ns": 1e-3, "us": 1.0, "ms": 1e3, "s": 1e6}
for run in json.load(sys.stdin)["benchmarks"]:
    if run["run_type"] != "iteration":
        continue
    case = run["name"].split("/")[1]
    if "error_message" in run:
        sys.exit(f"{case}: {run['error_message']}")
    print(f"{sys.argv[1]}\t{case}\t{run['real_time'] * MICROSECONDS[run['time_unit']]:.1f}", flush=True)
