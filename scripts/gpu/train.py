"""Short trainings on the GPU with the program `sinew`: the built-in set, MNIST and one CIFAR-10 batch where carried.

usage: train.py PROGRAM DATA RESULT.json [--small]     DATA: a folder that may hold mnist/ and cifar/; --small: seconds on a CPU
Each must bring its loss down, and those that only record their steps in another way must have the same losses, bit by
bit; exit code 1 when one does not.
"""
import json
import os
import subprocess
import sys
import tempfile

program, data, result_file = sys.argv[1:4]
SMALL = "--small" in sys.argv[4:]

RESNET = ["--data", "cifar10", "--model", "resnet20", "--batch", "128", "--data.augment", "none"]
ADAHESSIAN = ["--data", "cifar10", "--model", "resnet20", "--steps", "60", "--batch", "128", "--optim", "adahessian"]
# name, folder that must exist, settings, least test accuracy, the run that it must equal
RUNS = [
    ("mlp on synthetic", "", ["--data", "synthetic", "--model", "mlp", "--epochs", "3"], 0.6),
    ("lenet on synthetic", "", ["--data", "synthetic", "--model", "lenet", "--epochs", "2"], 0.8),
    ("lenet on mnist", "mnist", ["--data", "mnist", "--model", "lenet", "--epochs", "2", "--batch", "128"], 0.97),
    ("lenet by cuBLAS and cuDNN", "mnist",
     ["--data", "mnist", "--model", "lenet", "--epochs", "2", "--batch", "128", "--train.kernels", "vendor"], 0.97),
    ("lenet, 4 processes under easgd", "mnist",
     ["--data", "mnist", "--model", "lenet", "--epochs", "2", "--batch", "128", "--workers", "4", "--scheme", "easgd",
      "--scheme.period", "4"], 0.95),
    ("resnet20 on a cifar-10 batch", "cifar", [*RESNET, "--epochs", "8"], 0.25),
    ("resnet20, graphs of the pass alone", "cifar", [*RESNET, "--epochs", "8", "--train.graph", "pass"], 0.25,
     "resnet20 on a cifar-10 batch"),
    ("resnet20, no graphs", "cifar", [*RESNET, "--epochs", "8", "--train.graph", "off"], 0.25,
     "resnet20 on a cifar-10 batch"),
    ("resnet20 in bf16 on a cifar-10 batch", "cifar", [*RESNET, "--epochs", "8", "--train.precision", "bf16"], 0.25),
    ("resnet20 in bf16, no graphs", "cifar",
     [*RESNET, "--epochs", "8", "--train.precision", "bf16", "--train.graph", "off"], 0.25,
     "resnet20 in bf16 on a cifar-10 batch"),
    ("resnet20 in bf16 by cuBLAS and cuDNN", "cifar",
     [*RESNET, "--epochs", "8", "--train.precision", "bf16", "--train.kernels", "vendor"], 0.25),
    ("resnet20 with AdaHessian on a cifar-10 batch", "cifar", ADAHESSIAN, 0.1),
    ("AdaHessian, the Hessian every other step", "cifar", [*ADAHESSIAN, "--optim.hessian_every", "2"], 0.1),
    ("AdaHessian, no graphs", "cifar", [*ADAHESSIAN, "--optim.hessian_every", "2", "--train.graph", "off"], 0.1,
     "AdaHessian, the Hessian every other step"),
]
if SMALL:
    tiny = ["--data.train_size", "200", "--data.resize", "8", "--batch", "8", "--steps", "30", "--lr", "0.02"]
    mlp = ["--data", "synthetic", "--model", "mlp", "--model.hidden", "16", *tiny]
    RUNS = [("mlp on synthetic", "", mlp, 0.0),
            ("the same, no graphs", "", [*mlp, "--train.graph", "off"], 0.0, "mlp on synthetic")]

done, failed, losses_of = [], False, {}
for name, folder, settings, least, *equal in RUNS:
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
            ended = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=60)
            code, text = ended.returncode, ended.stdout
        except subprocess.TimeoutExpired:
            code, text = 124, "took too long"
        entry = {"name": name, "command": " ".join(command[1:-2]), "exit_code": code}
        if code == 0:
            summary = json.load(open(os.path.join(run, "summary.json")))
            lines = [json.loads(line) for line in open(os.path.join(run, "metrics.jsonl"))]
            losses = [line["loss"] for line in lines if line["measured"] == "own"] or [line["loss"] for line in lines]
            losses_of[name] = losses
            entry.update(first_loss=losses[0], last_loss=losses[-1], test_accuracy=summary["test_accuracy"],
                         samples_per_second=summary["samples_per_second"], steps=summary["steps_per_worker"],
                         wall_seconds=summary["wall_seconds"])
            good = losses[-1] < losses[0] and summary["test_accuracy"] >= least
            good &= all(losses_of.get(other) == losses for other in equal)
            print(f"{name}: loss {losses[0]:.4f} to {losses[-1]:.4f}, accuracy {summary['test_accuracy']:.4f}, "
                  f"{summary['samples_per_second']:.0f} samples/s{'' if good else '  NOT AS EXPECTED'}")
        elif "this build has no UCX" in text:
            print(f"{name}: skipped, these binaries are built without UCX")
            done.append({"name": name, "skipped": "these binaries are built without UCX"})
            continue
        else:
            good = False
            print(f"{name}: exit code {code}: {text[-800:]}")
            entry["output"] = text[-800:]
        entry["good"] = good
        failed |= not good
        done.append(entry)
    json.dump(done, open(result_file, "w"), indent=1)
sys.exit(1 if failed else 0)
