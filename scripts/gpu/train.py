"""Short trainings on the GPU with the program `sinew`: the built-in set, MNIST and one CIFAR-10 batch where carried.

usage: train.py PROGRAM DATA RESULT.json [--small]     DATA: a folder that may hold mnist/ and cifar/; --small: seconds on a CPU
Each must bring its loss down; exit code 1 when one does not.
"""
import json
import os
import subprocess
import sys
import tempfile

program, data, result_file = sys.argv[1:4]
SMALL = "--small" in sys.argv[4:]

# name, folder that must exist, settings, least test accuracy
RUNS = [
    ("mlp on synthetic", "", ["--data", "synthetic", "--model", "mlp", "--epochs", "3"], 0.6),
    ("lenet on synthetic", "", ["--data", "synthetic", "--model", "lenet", "--epochs", "2"], 0.8),
    ("lenet on mnist", "mnist", ["--data", "mnist", "--model", "lenet", "--epochs", "2", "--batch", "128"], 0.97),
    ("resnet20 on a cifar-10 batch", "cifar",
     ["--data", "cifar10", "--model", "resnet20", "--epochs", "8", "--batch", "128", "--data.augment", "none"], 0.25),
    ("resnet20 in bf16 on a cifar-10 batch", "cifar",
     ["--data", "cifar10", "--model", "resnet20", "--epochs", "8", "--batch", "128", "--data.augment", "none",
      "--train.precision", "bf16"], 0.25),
    ("resnet20 with AdaHessian on a cifar-10 batch", "cifar",
     ["--data", "cifar10", "--model", "resnet20", "--steps", "60", "--batch", "128", "--optim", "adahessian"], 0.1),
]
if SMALL:
    tiny = ["--data.train_size", "200", "--data.resize", "8", "--batch", "8", "--steps", "30", "--lr", "0.02"]
    RUNS = [("mlp on synthetic", "", ["--data", "synthetic", "--model", "mlp", "--model.hidden", "16", *tiny], 0.0)]

done, failed = [], False
for name, folder, settings, least in RUNS:
    if folder and not os.path.isdir(os.path.join(data, folder)):
        print(f"{name}: skipped, no {folder}/ was carried")
        done.append({"name": name, "skipped": f"no {folder}/ was carried"})
        continue
    with tempfile.TemporaryDirectory() as out:
        run = os.path.join(out, "run")
        command = [program, "train", "--device", "cuda", *settings, "--train.eval_every", "1000000", "--log.progress",
                   "none", "--out", run]
        command += ["--data.dir", os.path.join(data, folder)] if folder else []
        try:
            ended = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=120)
            code, text = ended.returncode, ended.stdout
        except subprocess.TimeoutExpired:
            code, text = 124, "took too long"
        entry = {"name": name, "command": " ".join(command[1:-2]), "exit_code": code}
        if code == 0:
            summary = json.load(open(os.path.join(run, "summary.json")))
            lines = [json.loads(line) for line in open(os.path.join(run, "metrics.jsonl"))]
            losses = [line["loss"] for line in lines if line["measured"] == "own"]
            entry.update(first_loss=losses[0], last_loss=losses[-1], test_accuracy=summary["test_accuracy"],
                         samples_per_second=summary["samples_per_second"], steps=summary["steps_per_worker"],
                         wall_seconds=summary["wall_seconds"])
            good = losses[-1] < losses[0] and summary["test_accuracy"] >= least
            print(f"{name}: loss {losses[0]:.4f} to {losses[-1]:.4f}, accuracy {summary['test_accuracy']:.4f}, "
                  f"{summary['samples_per_second']:.0f} samples/s{'' if good else '  NOT AS EXPECTED'}")
        else:
            good = False
            print(f"{name}: exit code {code}: {text[-800:]}")
            entry["output"] = text[-800:]
        entry["good"] = good
        failed |= not good
        done.append(entry)
json.dump(done, open(result_file, "w"), indent=1)
sys.exit(1 if failed else 0)
