"""Runs a GoogleTest binary suite by suite, each in a process of its own: an error that spoils a process' GPU context
spoils one suite. A suite that crashed or failed is run again test by test.

usage: run_tests.py BINARY RESULT.json SECONDS [--jobs N] [--filter GTEST_FILTER]
Prints failures and "N passed, N failed, N skipped"; exit code 1 when a test failed or was not run, for want of time.
"""
import argparse
import concurrent.futures
import json
import os
import re
import subprocess
import sys
import tempfile
import time

parser = argparse.ArgumentParser()
parser.add_argument("binary")
parser.add_argument("result")
parser.add_argument("seconds", type=float)
parser.add_argument("--jobs", type=int, default=4)
parser.add_argument("--filter", default="*")
args = parser.parse_args()
end = time.monotonic() + args.seconds
PER_PROCESS = 90  # seconds


def suites():
    listed = subprocess.run([args.binary, "--gtest_list_tests", "--gtest_filter=" + args.filter], text=True, timeout=60,
                            stdout=subprocess.PIPE, check=True).stdout
    found = {}
    suite = None
    for line in listed.splitlines():
        name = line.split("#")[0].rstrip()
        if name.endswith(".") and not name.startswith(" "):
            suite = name[:-1]
        elif name.startswith("  ") and suite and not suite.startswith("DISABLED_"):
            found.setdefault(suite, []).append(suite + "." + name.strip())
    return found


def process(names, alone=False):
    """Results of these tests from one process: name -> (state, message, seconds). alone: launches wait for the kernel,
    so that an error names the one that failed."""
    left = end - time.monotonic()
    if left <= 0:
        return {name: ("not run", "out of time", 0.0) for name in names}
    with tempfile.TemporaryDirectory() as folder:
        output = os.path.join(folder, "result.json")
        command = [args.binary, "--gtest_filter=" + ":".join(names), "--gtest_output=json:" + output]
        try:
            run = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace",
                                 timeout=min(left, PER_PROCESS),
                                 env={**os.environ, "CUDA_LAUNCH_BLOCKING": "1"} if alone else None)
            text, ended = run.stdout, f"ended with {run.returncode}"
        except subprocess.TimeoutExpired as late:
            text, ended = (late.stdout or b"").decode(errors="replace"), "took too long"
        results = {}
        if os.path.exists(output):
            for suite in json.load(open(output))["testsuites"]:
                for test in suite["testsuite"]:
                    name = f"{suite['name']}.{test['name']}"
                    messages = [f["failure"] for f in test.get("failures", [])]
                    state = "failed" if messages else "skipped" if test.get("result") == "SKIPPED" else "passed"
                    if state == "skipped":
                        messages = re.findall(r"\[ RUN      \] " + re.escape(name) + r"\n\S+: Skipped\n(.*?)\n", text)
                        if messages and re.match("no (CUDA )?device", messages[0]):
                            state = "failed"  # this is for machines that have one
                    results[name] = (state, "\n".join(messages)[:600], float(test["time"].rstrip("s")))
        else:
            for name in names:
                if f"[       OK ] {name} " in text:
                    results[name] = ("passed", "", 0.0)
                elif f"[ RUN      ] {name}\n" in text:
                    tail = text[text.index(f"[ RUN      ] {name}\n"):].split("\n", 1)[1][-500:]
                    results[name] = ("failed", f"the process {ended}\n{tail}", 0.0)
        return {name: results.get(name, ("lost", f"the process {ended} before this test", 0.0)) for name in names}


def whole_suite(names):
    results = process(names)
    again = [n for n, r in results.items() if r[0] == "lost"]
    failed = [n for n, r in results.items() if r[0] == "failed"]
    if len(names) > 1:
        for name in again + failed[1:20]:  # what followed the first failure may only have suffered from it
            results.update(process([name], alone=True))
    return results


began = time.monotonic()
results = {}
with concurrent.futures.ThreadPoolExecutor(args.jobs) as pool:
    for part in pool.map(whole_suite, suites().values()):
        results.update(part)
count = {state: sum(r[0] == state for r in results.values()) for state in ("passed", "failed", "skipped")}
count["failed"] += sum(r[0] == "lost" for r in results.values())
late = [name for name, r in results.items() if r[0] == "not run"]
reasons = {}
for name, (state, message, _) in results.items():
    if state in ("failed", "lost"):
        print(f"{state}: {name}\n  " + message.strip().replace("\n", "\n  "))
    if state == "skipped":
        reasons.setdefault(message.strip(), []).append(name)
for reason, names in reasons.items():
    print(f"skipped {len(names)}: {reason} ({', '.join(names[:4])}{', ...' if len(names) > 4 else ''})")
if late:
    print(f"not run, out of time: {', '.join(late[:4])}{', ...' if len(late) > 4 else ''}")
slowest = sorted(results.items(), key=lambda item: -item[1][2])[:5]
print("slowest: " + ", ".join(f"{name} {result[2]:.2f} s" for name, result in slowest))
print(f"{count['passed']} passed, {count['failed']} failed, {count['skipped']} skipped" + (f", {len(late)} not run" if late else ""))
json.dump({**count, "not_run": len(late), "seconds": round(time.monotonic() - began, 1),
           "failures": [{"test": n, "message": r[1]} for n, r in results.items() if r[0] in ("failed", "lost")],
           "skips": {reason: len(names) for reason, names in reasons.items()}}, open(args.result, "w"), indent=1)
sys.exit(0 if count["failed"] == 0 and count["passed"] > 0 and not late else 1)
