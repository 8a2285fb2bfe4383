"""One Markdown and one JSON file from what the parts of scripts/gpu_check.sh left.

usage: report.py WORK OUT
"""
import datetime
import json
import os
import re
import subprocess
import sys

work, out = sys.argv[1:3]


def load(name, otherwise):
    path = os.path.join(work, name)
    try:
        text = open(path).read()
    except OSError:
        return otherwise
    if not name.endswith(".json"):
        return text
    for end in ("", "]}", "}]}"):  # a benchmark that was stopped leaves its list open
        try:
            return json.loads(text.rstrip().removesuffix(",") + end if end else text)
        except ValueError:
            pass
    return otherwise


def rows(text):
    return [line.split("\t") for line in text.splitlines() if line]


def table(text):
    """The script that compares peers is used for lines of the same kind everywhere."""
    script = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "bench", "table.py")
    return subprocess.run([sys.executable, script, "sinew"], input=text, text=True, stdout=subprocess.PIPE).stdout.rstrip()


parts = [dict(zip(("part", "result", "seconds", "note"), row)) for row in rows(load("parts.tsv", ""))]
gpu = load("gpu.txt", "unknown").strip()
report = {"date": datetime.date.today().isoformat(), "gpu": gpu, "info": load("info.log", ""), "parts": parts,
          "tests": load("tests.json", None), "train": load("train.json", None), "ptxas": load("ptxas.json", None)}
lines = [f"# GPU check: {gpu}, {report['date']}", "", "| part | result | seconds | last line |", "| --- | --- | ---: | --- |"]
lines += [f"| {p['part']} | {p['result']} | {p['seconds']} | {p['note'].replace('|', '/')} |" for p in parts]
if report["info"]:
    lines += ["", "```", report["info"].strip(), "```"]
if report["tests"]:
    tests = report["tests"]
    lines += ["", f"## Tests: {tests['passed']} passed, {tests['failed']} failed, {tests['skipped']} skipped, {tests['not_run']} not run"]
    for failure in tests["failures"]:
        lines += ["", f"- {failure['test']}", "", "```", failure["message"].strip(), "```"]
    lines += [f"- skipped {n}: {reason}" for reason, n in tests["skips"].items()]

MICROSECONDS = {"ns": 1e-3, "us": 1.0, "ms": 1e3, "s": 1e6}
STANDARD = {"name", "family_index", "per_family_instance_index", "run_name", "run_type", "repetitions", "repetition_index",
            "threads", "iterations", "real_time", "cpu_time", "time_unit", "aggregate_name", "aggregate_unit", "label",
            "error_occurred", "error_message", "items_per_second", "bytes_per_second"}
report["bench"] = {}
for file in sorted(os.listdir(work)):
    if not (file.startswith("bench_") and file.endswith(".json")):
        continue
    runs = load(file, {}).get("benchmarks", [])
    name = file[:-5]
    cases = []
    for run in runs:
        if run.get("run_type") == "aggregate":
            continue
        case = re.sub(r"(/iterations:\d+|/manual_time|/real_time)+$", "", run["name"])
        if run.get("error_occurred"):
            cases.append({"case": case, "error": run.get("error_message", "")})
        else:
            cases.append({"case": case, "us": run["real_time"] * MICROSECONDS[run["time_unit"]],
                          **{k: v for k, v in run.items() if k not in STANDARD}})
    report["bench"][name] = cases
    if name.startswith("bench_train_train_step"):
        continue  # in the table of training steps
    counters = []
    for row in cases:
        counters += [k for k in row if k not in ("case", "us", "error") and k not in counters]
    lines += ["", f"## {name}", "", "| case | us | " + " | ".join(counters) + " |", "| --- | ---: |" + " ---: |" * len(counters)]
    for row in cases:
        if "error" in row:
            lines.append(f"| {row['case']} | error: {row['error']} |" + " |" * len(counters))
        else:
            shown = [f"{row[k]:.4g}" if isinstance(row.get(k), (int, float)) else "" for k in counters]
            lines.append(f"| {row['case']} | {row['us']:.2f} | " + " | ".join(shown) + " |")
if report["train"]:
    lines += ["", "## Training", "", "| run | steps | loss | test accuracy | samples/s | as expected |", "| --- | ---: | --- | ---: | ---: | --- |"]
    for run in report["train"]:
        if "skipped" in run:
            lines.append(f"| {run['name']} | | {run['skipped']} | | | skipped |")
        elif "first_loss" not in run:
            lines.append(f"| {run['name']} | | exit code {run['exit_code']}: {run.get('output', '')[-200:]!r} | | | no |")
        else:
            lines.append(f"| {run['name']} | {run['steps']} | {run['first_loss']:.4f} to {run['last_loss']:.4f} | "
                         f"{run['test_accuracy']:.4f} | {run['samples_per_second']:.0f} | {'yes' if run['good'] else 'NO'} |")
steps = rows(load("torch.tsv", ""))
if steps:
    report["training_steps"] = [{"peer": p, "case": c, "us": float(us)} for p, c, us in steps]
    lines += ["", "## Training steps (a ratio above 1: sinew is that much faster)", "", "```", table(load("torch.tsv", "")), "```"]
with open(os.path.join(out, "gpu_check.md"), "w") as file:
    file.write("\n".join(lines) + "\n")
with open(os.path.join(out, "gpu_check.json"), "w") as file:
    json.dump(report, file, indent=1)
