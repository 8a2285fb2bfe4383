"""Training steps (forward, backward, SGD with momentum) in PyTorch: the peer of bench/train/train_step.cpp.

usage: torch_mlp.py THREADS SECONDS [--compile]      prints `peer <tab> case <tab> microseconds a step`, several a case
Debian's PyTorch is fastest with its OpenMP build of OpenBLAS and, on CPUs with AVX-512 that it does not know, the kernels
for those: OPENBLAS_CORETYPE=SkylakeX LD_LIBRARY_PATH=/usr/lib/x86_64-linux-gnu/openblas-openmp
"""
import os
import sys
import time

THREADS, SECONDS = int(sys.argv[1]), float(sys.argv[2])
COMPILE = "--compile" in sys.argv[3:]
os.environ["OMP_NUM_THREADS"] = os.environ["OPENBLAS_NUM_THREADS"] = str(THREADS)

import torch
import torch.nn.functional as F
from torch import nn

torch.set_num_threads(THREADS)
torch.manual_seed(0)
BLOCKS = 5
CASES = {
    "mlp1024_b128": ((784, 1024, 1024, 10), 128),
    "mlp1024_b32": ((784, 1024, 1024, 10), 32),
    "small64_b16": ((64, 64, 10), 16),
}


def network(widths):
    layers = []
    for i, (inputs, outputs) in enumerate(zip(widths, widths[1:])):
        layers += ([nn.ReLU()] if i else []) + [nn.Linear(inputs, outputs)]
    return nn.Sequential(*layers)


def stepper(widths, batch, options):
    model = network(widths)
    forward = torch.compile(model) if COMPILE else model
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9, **options)
    x, y = torch.randn(batch, widths[0]), torch.arange(batch) % 10

    def step():
        optimizer.zero_grad()
        F.cross_entropy(forward(x), y).backward()
        optimizer.step()

    return step


def steppers(widths, batch):
    """One for each way in which this version's optimizer can run; the fastest is measured."""
    for options in ({}, {"foreach": True}, {"fused": True}):
        try:
            yield stepper(widths, batch, options)
        except (TypeError, RuntimeError):  # this version has no such way
            pass


def steps_in(step, seconds):
    for _ in range(5):
        step()
    begin, steps = time.perf_counter(), 0
    while time.perf_counter() - begin < seconds:
        step()
        steps += 1
    return steps


for name, (widths, batch) in CASES.items():
    steps, step = max(((steps_in(s, SECONDS / BLOCKS), s) for s in steppers(widths, batch)), key=lambda pair: pair[0])
    for _ in range(BLOCKS):
        begin = time.perf_counter()
        for _ in range(steps):
            step()
        each = (time.perf_counter() - begin) / steps
        peer = f"torch-{torch.__version__}" + ("-compile" if COMPILE else "")
        print(f"{peer}\t{name}\t{each * 1e6:.1f}", flush=True)
