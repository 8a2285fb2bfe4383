"""Weights from PyTorch to sinew and back, network by network.

usage: round_trip.py PROGRAM     exit code 1 when something differs

A state_dict, counters included, is written as safetensors.torch.save_file would; `sinew train` starts from it and, at
learning rate 0, must export the same parameters bit for bit (one step of training moves running statistics alone). What
it exported loads into the PyTorch network, which then gives the logits that `sinew probe` gives; and written by PyTorch
again, the file gives the same bytes in `sinew probe`.
"""
import os
import subprocess
import sys
import tempfile

import torch

import safetensors_file
from networks import NETWORKS, draw, labels, make

BATCH, BOUND = 8, 1e-4
COUNTER = "num_batches_tracked"


def run(*words):
    subprocess.run(words, check=True, stdout=subprocess.DEVNULL)


def probe(program, name, weights, folder):
    out = os.path.join(folder, "out.safetensors")
    run(program, "probe", "--model", name, "--weights", weights, "--batch", os.path.join(folder, "batch.safetensors"), "--out", out)
    with open(out, "rb") as file:
        return file.read(), safetensors_file.read(out)["logits"]


def round_trip(program, name, folder):
    def file(stem):
        return os.path.join(folder, stem + ".safetensors")

    given = make(name, False).state_dict()
    inputs, classes = draw("inputs.0", (BATCH, *NETWORKS[name].sample)), labels(BATCH)
    safetensors_file.write(file("given"), given)
    safetensors_file.write(file("batch"), {"inputs": inputs, "labels": classes})
    safetensors_file.write(file("data"), {"x": inputs, "y": classes})
    run(program, "train", "--model", name, "--model.weights", file("given"), "--lr", "0", "--steps", "1", "--batch", str(BATCH), "--data",
        "tensors", "--data.layout", "nchw", "--data.file", file("data"), "--data.test_file", file("data"), "--log.progress", "none",
        "--out", os.path.join(folder, "run"))  # fmt: skip
    exported_file = os.path.join(folder, "run", "model.safetensors")
    exported = safetensors_file.read(exported_file)
    if set(exported) != {key for key in given if not key.endswith(COUNTER)}:
        return f"other names: {sorted(set(exported) ^ set(given))}"
    for key in exported:
        if "running_" not in key and not torch.equal(exported[key], given[key]):
            return f"{key} changed"
    back = NETWORKS[name](0).eval()
    missing, surplus = back.load_state_dict(exported, strict=False)
    if surplus or not all(key.endswith(COUNTER) for key in missing):
        return f"load_state_dict: missing {missing}, surplus {surplus}"
    with torch.no_grad():
        theirs = back(inputs)
    result, ours = probe(program, name, exported_file, folder)
    error = ((ours - theirs).norm() / theirs.norm()).item()
    if not error < BOUND:
        return f"logits differ by {error:.1e}"
    safetensors_file.write(file("back"), back.state_dict())
    if probe(program, name, file("back"), folder)[0] != result:
        return "the file that PyTorch wrote again gives another result"
    counters = sum(key.endswith(COUNTER) for key in given)
    print(f"{name:8} | {len(exported)} tensors there and back, {counters} counters skipped | logits {error:.1e} | ok")
    return ""


failed = False
for network in NETWORKS:
    with tempfile.TemporaryDirectory() as scratch:
        defect = round_trip(sys.argv[1], network, scratch)
    if defect:
        print(f"{network:8} | FAIL: {defect}")
        failed = True
sys.exit(failed)
