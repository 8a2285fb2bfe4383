#!/usr/bin/env python3
"""Every scheme, in the simulation and over UCX, on MNIST: an MLP, 4 workers, one epoch each, every worker sees all data.

  scripts/scheme_table.py DATA [--program build/release/models/sinew] [--only NAME ...] [--least 0.96]

DATA: the folder with MNIST's four files. Prints a table in Markdown, and under it whether the lockstep schemes have equal
parameters in both worlds. Exit code 1 when a run fails, such parameters differ, or a scheme that the papers train networks
with (all but admm, which is there for comparison) ends below the least accuracy.
"""
import argparse
import json
import subprocess
import sys
import tempfile

MLP = ["--model", "mlp", "--model.hidden", "256", "--workers", "4", "--epochs", "1", "--batch", "64", "--seed", "1",
       "--data.sharding", "full", "--train.threads", "1", "--log.progress", "none"]
MOMENTUM = ["--optim", "momentum", "--lr", "0.05"]
SGD = ["--optim", "sgd", "--lr", "0.2"]
DOWNPOUR = ["--optim", "sgd", "--lr", "0.1", "--scheme.period", "1"]
NAG = ["--optim", "nag", "--lr", "0.05"]

# name, settings, whether it is in lockstep
SCHEMES = [
    ("local", MOMENTUM, True),
    ("asgd", SGD, True),
    ("mvasgd", SGD, True),
    ("msgd", NAG, True),
    ("allreduce", MOMENTUM + ["--data.sharding", "full"], True),
    ("easgd", MOMENTUM, False),
    ("eamsgd", NAG, False),
    ("easgd_sync", MOMENTUM, True),
    ("easgd_sync", MOMENTUM + ["--scheme.order", "gauss_seidel"], True),
    ("easgd_tree", MOMENTUM + ["--scheme.fan_out", "2"], False),
    ("easgd", MOMENTUM + ["--scheme.wire", "int8"], False),
    ("easgd_tree", MOMENTUM + ["--scheme.fan_out", "2", "--scheme.wire", "bf16"], False),
    ("allreduce", MOMENTUM + ["--data.sharding", "full", "--scheme.wire", "int8"], True),
    ("local_sgd", MOMENTUM + ["--scheme.wire", "int8"], True),
    ("downpour", DOWNPOUR, False),
    ("adownpour", DOWNPOUR, False),
    ("mvadownpour", DOWNPOUR + ["--scheme.average_rate", "0.01"], False),
    ("mdownpour", ["--optim", "sgd", "--lr", "0.01", "--scheme.outer_momentum", "0.9"], False),
    ("local_sgd", MOMENTUM, True),
    ("local_sgd", MOMENTUM + ["--preset", "diloco", "--optim", "adamw", "--lr", "0.001"], True),
    ("elastic_gossip", MOMENTUM + ["--scheme.probability", "0.25", "--scheme.period", "1"], True),
    ("elastic_gossip", MOMENTUM + ["--scheme.mode", "async", "--scheme.probability", "0.25", "--scheme.period", "1"], False),
    ("gossiping_sgd", MOMENTUM + ["--scheme.probability", "0.25", "--scheme.period", "1"], True),
    ("gossiping_sgd", MOMENTUM + ["--scheme.direction", "push", "--scheme.probability", "0.25", "--scheme.period", "1"], True),
    ("gosgd", MOMENTUM + ["--scheme.probability", "0.1", "--scheme.period", "1"], False),
    ("dpsgd", MOMENTUM + ["--scheme.period", "4"], True),
    ("dpsgd", MOMENTUM + ["--scheme.topology", "one_peer_exponential", "--scheme.period", "4"], True),
    ("dpsgd", ["--optim", "qgm", "--lr", "0.05", "--scheme.period", "4"], True),
    ("sgp", MOMENTUM + ["--scheme.period", "4"], True),
    ("adpsgd", MOMENTUM + ["--scheme.period", "4"], False),
    ("lgd", ["--optim", "sgd", "--lr", "0.3"], True),
    ("lsgd", MOMENTUM, True),
    ("lsgd", MOMENTUM + ["--scheme.groups", "2"], True),
    ("lsgd", MOMENTUM + ["--scheme.wire", "int8"], True),
    ("lsgd", MOMENTUM + ["--scheme.mode", "async"], False),
    ("admm", ["--optim", "sgd", "--lr", "0.1", "--scheme.period", "1"], False),
    ("easgd", ["--preset", "eahes", "--optim.hessian_every", "4"], False),
    ("easgd", ["--preset", "deahes", "--optim.hessian_every", "4"], False),
]
# Settings that are words of a name in the table.
LABELS = ("--scheme.order", "--scheme.mode", "--scheme.groups", "--scheme.direction", "--scheme.topology", "--scheme.wire", "--preset")


def label(name, settings):
    words = [settings[i + 1] for i, s in enumerate(settings[:-1]) if s in LABELS]
    words += ["qgm"] if "qgm" in settings else []
    return " ".join([name] + words)


def sent_by_workers(path):
    """Bytes that each worker has sent up to its last step, on average."""
    sent = {}
    with open(path, encoding="utf-8") as file:
        for line in file:
            record = json.loads(line)
            sent[record["worker"]] = max(sent.get(record["worker"], 0), record.get("bytes_sent", 0))
    return sum(sent.values()) / len(sent)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data")
    parser.add_argument("--program", default="build/release/models/sinew")
    parser.add_argument("--only", nargs="*", default=[], help="schemes by name")
    parser.add_argument("--least", type=float, default=0.96, help="test accuracy that every scheme but admm must reach")
    options = parser.parse_args()

    print("| scheme | world | accuracy | of | MB sent by a worker | by all nodes | apart | wall s | virtual s | lost, missed |")
    print("| --- | --- | ---: | --- | ---: | ---: | ---: | ---: | ---: | ---: |")
    differing, equal, failed = [], 0, []
    for name, settings, lockstep in SCHEMES:
        if options.only and name not in options.only:
            continue
        parameters = []
        for world in ("sim", "ucx"):
            with tempfile.TemporaryDirectory() as folder:
                chosen = settings if "--preset" in settings else ["--scheme", name] + settings
                command = [options.program, "train", "--run.world", world, "--data", "mnist", "--data.dir", options.data,
                           "--out", folder + "/run"] + MLP + chosen
                done = subprocess.run(command, capture_output=True, text=True, check=False)
                if done.returncode != 0:
                    failed.append(f"{label(name, settings)} ({world}): exit {done.returncode}: {done.stderr.strip()[-300:]}")
                    continue
                with open(folder + "/run/summary.json", encoding="utf-8") as file:
                    s = json.load(file)
                own = sent_by_workers(folder + "/run/metrics.jsonl")
            parameters.append(s["parameters_sha256"])
            if name != "admm" and not s["test_accuracy"] >= options.least:
                failed.append(f"{label(name, settings)} ({world}): accuracy {s['test_accuracy']:.4f}, less than {options.least}")
            apart = s["consensus_distance"]
            print(f"| {label(name, settings)} | {world} | {s['test_accuracy']:.4f} | {s['evaluated']} "
                  f"| {own / 1e6:.1f} | {s['bytes_sent'] / 1e6:.1f} | {'' if apart is None else f'{apart:.3g}'} | {s['wall_seconds']:.1f} "
                  f"| {s['virtual_seconds'] and round(s['virtual_seconds'], 2) or ''} | {s['exchanges_lost']}, {s['missed']} |", flush=True)
        if lockstep and len(parameters) == 2:
            if parameters[0] == parameters[1]:
                equal += 1
            else:
                differing.append(label(name, settings))
    print(f"\nLockstep schemes with equal parameters_sha256 in both worlds: {equal}; differing: {differing or 'none'}")
    for line in failed:
        print("FAILED", line)
    return 1 if failed or differing else 0


if __name__ == "__main__":
    sys.exit(main())
