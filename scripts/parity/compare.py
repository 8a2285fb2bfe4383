"""`sinew probe` against PyTorch, network by network, in training and evaluation mode.

usage: compare.py PROGRAM [--batch N] [--any]   exit code 1 when something is beyond the bounds
       compare.py --record FILE                 the vectors that tests/models/parity_test.cpp reads, from PyTorch in f64

Errors are ||a - b|| / ||b||, of the logits, the whole gradient, the whole Hessian-vector product and the running
statistics after the pass; the bounds hold against PyTorch in f32 and against PyTorch in f64. Each single parameter's
error is within the bound too, of its own norm or of a hundredth of the whole's if that is more: where a gradient is
zero in exact arithmetic (a bias before batch norm) there is only rounding noise to compare.

The batch is one at which the network is differentiable (kinks.py). --any takes batch 0, kinks or not, which allows a
large one; gradients and products are then shown and not judged.
"""
import argparse
import math
import os
import subprocess
import sys
import tempfile

import torch
import torch.nn.functional as F

import safetensors_file
from kinks import smooth_batch
from networks import NETWORKS, draw, labels, make, noise

BOUNDS = {"loss": 1e-4, "logits": 1e-4, "grad": 1e-4, "hv": 1e-3, "buffer": 1e-4}
SMALL = 0.01  # of the whole's norm: below it a single parameter's error counts against the whole
PROJECTIONS = 4


def directions(model):
    return {"z." + name: draw("z." + name, p.shape) for name, p in model.named_parameters()}


def torch_probe(name, training, inputs, dtype):
    """What `sinew probe` writes, by PyTorch."""
    model = make(name, training).to(dtype)
    names, parameters = zip(*model.named_parameters())
    z = [direction.to(dtype) for direction in directions(model).values()]
    logits = model(inputs.to(dtype))
    loss = F.cross_entropy(logits, labels(len(inputs)))
    gradient = torch.autograd.grad(loss, parameters, create_graph=True)
    products = torch.autograd.grad(gradient, parameters, grad_outputs=z)
    out = {"loss": loss.reshape(1), "logits": logits}
    out.update({"grad." + key: g for key, g in zip(names, gradient)})
    out.update({"hv." + key: p for key, p in zip(names, products)})
    out.update({"buffer." + key: b for key, b in model.named_buffers() if not key.endswith("num_batches_tracked")})
    return {key: tensor.detach() for key, tensor in out.items()}


def sinew_probe(program, name, training, inputs):
    model = make(name, training)
    weights = model.state_dict()
    with tempfile.TemporaryDirectory() as folder:
        files = {option: os.path.join(folder, option + ".safetensors") for option in ("weights", "batch", "out")}
        safetensors_file.write(files["weights"], weights)
        given = {"inputs": inputs, "labels": labels(len(inputs)), **directions(model)}
        safetensors_file.write(files["batch"], given)
        command = [program, "probe", "--model", name, "--mode", "train" if training else "eval"]
        command += [word for option, path in files.items() for word in ("--" + option, path)]
        if training:  # evaluation: the network's own rate, which must not matter
            command += ["--model.dropout", "0"]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        return safetensors_file.read(files["out"])


def norm(tensors):
    return math.sqrt(sum(t.double().square().sum().item() for t in tensors))


class Errors:
    """Of one kind ("grad") in `ours` against `theirs`."""

    def __init__(self, ours, theirs, kind):
        names = [key for key in theirs if key == kind or key.startswith(kind + ".")]
        whole = norm(theirs[key] for key in names)
        off = {key: norm([ours[key].double() - theirs[key].double()]) for key in names}
        self.whole = math.sqrt(sum(o * o for o in off.values())) / whole if names else 0.0
        single = {key: off[key] / max(norm([theirs[key]]), SMALL * whole) for key in names}
        self.worst_name = max(single, key=single.get) if names else ""
        self.worst = single[self.worst_name] if names else 0.0

    def within(self, bound):
        return self.whole < bound and self.worst < bound  # false for NaN


def compare(program, batch, take_any):
    print(f"PyTorch {torch.__version__}, batch {batch}; errors in f32: sinew to PyTorch, sinew to PyTorch in f64, "
          "PyTorch to itself in f64;\nworst: the parameter with the largest error, sinew to PyTorch in f64")
    print("network  | mode  | batch | loss | logits | gradient | worst | Hv | worst | statistics | verdict")
    failed = False
    for name in NETWORKS:
        for training in (True, False):
            mode = "train" if training else "eval"
            number, inputs = 0, draw("inputs.0", (batch, *NETWORKS[name].sample))
            if not take_any:
                number, inputs = smooth_batch(name, training, batch)
            ours = sinew_probe(program, name, training, inputs)
            f32, f64 = (torch_probe(name, training, inputs, dtype) for dtype in (torch.float32, torch.float64))
            if set(ours) != set(f64):
                sys.exit(f"{name} {mode}: only one side has {sorted(set(ours) ^ set(f64))}")
            cells, good = [], True
            for kind, bound in BOUNDS.items():
                errors = [Errors(ours, f32, kind), Errors(ours, f64, kind), Errors(f32, f64, kind)]
                if not (take_any and kind in ("grad", "hv")):
                    good = good and errors[0].within(bound) and errors[1].within(bound)
                cells.append(" ".join(f"{e.whole:.1e}" for e in errors))
                if kind in ("grad", "hv"):
                    cells.append(f"{errors[1].worst:.1e} {errors[1].worst_name.split('.', 1)[1]}")
            failed = failed or not good
            print(f"{name:8}", f"{mode:5}", number, *cells, "ok" if good else "FAIL", sep=" | ", flush=True)
    return failed


def record(path):
    """Of every tensor its norm and its products with PROJECTIONS tensors of noise: an error in any element shows."""
    vectors = {}
    for name in NETWORKS:
        for training in (True, False):
            number, inputs = smooth_batch(name, training, 2)
            prefix = f"{name}.{'train' if training else 'eval'}."
            vectors[prefix + "batch"] = torch.tensor([number, len(inputs)])
            for key, tensor in torch_probe(name, training, inputs, torch.float64).items():
                if key not in ("loss", "logits"):
                    flat = tensor.reshape(-1)
                    products = [flat @ noise(f"projection.{i}", len(flat)) for i in range(PROJECTIONS)]
                    tensor = torch.stack([flat.norm(), *products])
                vectors[prefix + key] = tensor
    safetensors_file.write(path, vectors)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("program", nargs="?")
    parser.add_argument("--batch", type=int, default=2)
    parser.add_argument("--any", action="store_true")
    parser.add_argument("--record")
    args = parser.parse_args()
    if args.record:
        record(args.record)
    else:
        sys.exit(compare(args.program, args.batch, args.any))
