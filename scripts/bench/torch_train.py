"""Training steps (forward, backward, update) in PyTorch: the peer of bench/train/train_step.cpp.

usage: torch_train.py THREADS SECONDS CASES [--compile] [--cuda] [--no-tf32]      CASES: a regular expression
       torch_train.py THREADS STEPS CASE --memory FORMAT      FORMAT: contiguous_format or channels_last
The second prints by how many bytes the process's peak rose over the steps, from just before the first one, and from
before the model was made. The first prints `peer <tab> case <tab> microseconds a step`, several a case. Each case runs in every way that this version has
(the optimizer's variants, channels first and last), and the fastest is measured.
Debian's PyTorch is fastest with its OpenMP build of OpenBLAS and, on CPUs with AVX-512 that it does not know, the kernels
for those: OPENBLAS_CORETYPE=SkylakeX LD_LIBRARY_PATH=/usr/lib/x86_64-linux-gnu/openblas-openmp
"""
import os
import re
import sys
import time

THREADS, SECONDS, CASES = int(sys.argv[1]), float(sys.argv[2]), re.compile(sys.argv[3])
COMPILE = "--compile" in sys.argv[4:]
DEVICE = "cuda" if "--cuda" in sys.argv[4:] else "cpu"
os.environ["OMP_NUM_THREADS"] = os.environ["OPENBLAS_NUM_THREADS"] = str(THREADS)
sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "parity"))

import torch
import torch.nn.functional as F
from networks import NETWORKS
from torch import nn

torch.set_num_threads(THREADS)
torch.manual_seed(0)
if "--no-tf32" in sys.argv[4:]:
    torch.backends.cudnn.allow_tf32 = False  # PyTorch's own default: TF32 in convolutions, not in products
if DEVICE == "cuda":
    torch.backends.cudnn.benchmark = True  # its fastest convolution for each shape
BLOCKS = 5


def mlp(*widths):
    layers = []
    for i, (inputs, outputs) in enumerate(zip(widths, widths[1:])):
        layers += ([nn.ReLU()] if i else []) + [nn.Linear(inputs, outputs)]
    return nn.Sequential(*layers)


def easgd_cifar():
    return nn.Sequential(
        nn.Conv2d(3, 64, 5), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(64, 128, 5), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(128, 64, 3), nn.ReLU(), nn.Flatten(), nn.Linear(256, 256), nn.ReLU(), nn.Dropout(0.5),
        nn.Linear(256, 10))  # fmt: skip


# name: network, with the rate of dropout that the zoo gives it; shape of a batch; AdaHessian's distance of two estimates
# (0: SGD with momentum); _bf16_: autocast
STEPS = {
    "mlp1024_b128": (lambda: mlp(784, 1024, 1024, 10), (128, 784), 0),
    "mlp1024_b32": (lambda: mlp(784, 1024, 1024, 10), (32, 784), 0),
    "small64_b16": (lambda: mlp(64, 64, 10), (16, 64), 0),
    "lenet_b64": (lambda: NETWORKS["lenet"](0), (64, 1, 28, 28), 0),
    "easgd_cifar_b128": (easgd_cifar, (128, 3, 28, 28), 0),
    "resnet20_b128": (lambda: NETWORKS["resnet20"](0), (128, 3, 32, 32), 0),
    "vgg16_b64": (lambda: NETWORKS["vgg16"](0.5), (64, 3, 32, 32), 0),
    "mlp1024_bf16_b128": (lambda: mlp(784, 1024, 1024, 10), (128, 784), 0),
    "lenet_bf16_b64": (lambda: NETWORKS["lenet"](0), (64, 1, 28, 28), 0),
    "resnet20_bf16_b128": (lambda: NETWORKS["resnet20"](0), (128, 3, 32, 32), 0),
    "vgg16_bf16_b64": (lambda: NETWORKS["vgg16"](0.5), (64, 3, 32, 32), 0),
    "resnet20_adahessian_b128": (lambda: NETWORKS["resnet20"](0), (128, 3, 32, 32), 1),
}


def sgd_step(model, x, y, options, bf16):
    forward = torch.compile(model) if COMPILE else model
    optimizer = torch.optim.SGD(model.parameters(), lr=0.001, momentum=0.9, **options)

    def step():
        optimizer.zero_grad()
        with torch.autocast(DEVICE, dtype=torch.bfloat16, enabled=bf16):
            loss = F.cross_entropy(forward(x), y)
        loss.backward()
        optimizer.step()

    return step


def adahessian_step(model, x, y):
    """arXiv:2006.00719, Algorithm 1, one Rademacher vector; the spatial average of each filter of a convolution."""
    parameters = list(model.parameters())
    first = [torch.zeros_like(p) for p in parameters]
    second = [torch.zeros_like(p) for p in parameters]

    def step():
        gradients = torch.autograd.grad(F.cross_entropy(model(x), y), parameters, create_graph=True)
        probes = [torch.randint_like(p, 2) * 2 - 1 for p in parameters]
        products = torch.autograd.grad(gradients, parameters, grad_outputs=probes)
        with torch.no_grad():
            for p, g, h, z, m, v in zip(parameters, gradients, products, probes, first, second):
                d = (h * z).abs()
                if d.dim() == 4:
                    d = d.mean((2, 3), keepdim=True).expand_as(d)
                m.mul_(0.9).add_(g, alpha=0.1)
                v.mul_(0.999).addcmul_(d, d, value=0.001)
                p.addcdiv_(m, v.sqrt().add_(1e-4), value=-0.001)

    return step


def ways(make, shape, hessian, bf16):
    labels = torch.arange(shape[0], device=DEVICE) % 10
    for layout in (torch.contiguous_format, torch.channels_last) if len(shape) == 4 else (torch.contiguous_format,):
        variants = ({"foreach": True}, {"fused": True}) if DEVICE == "cuda" else ({}, {"foreach": True}, {"fused": True})
        for options in variants if not hessian else ({},):
            x = torch.randn(shape, device=DEVICE).contiguous(memory_format=layout)
            model = make().to(DEVICE, memory_format=layout)
            try:
                yield adahessian_step(model, x, labels) if hessian else sgd_step(model, x, labels, options, bf16)
            except (TypeError, RuntimeError):  # this version has no such way
                pass


def resident(field):
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) * 1024 for line in status if line.startswith(field + ":"))


def print_growth(name, layout, steps):
    def reset():  # 5 sets the peak to what is resident now: proc(5)
        with open("/proc/self/clear_refs", "w") as peak:
            peak.write("5")
        return resident("VmRSS")

    make, shape, hessian = STEPS[name]
    whole = reset()
    labels = torch.arange(shape[0]) % 10
    x = torch.randn(shape).contiguous(memory_format=layout)
    model = make().to(memory_format=layout)
    step = adahessian_step(model, x, labels) if hessian else sgd_step(model, x, labels, {}, "_bf16_" in name)
    before = reset()
    for _ in range(steps):
        step()
    peak = resident("VmHWM")
    print(f"{peak - before}\t{peak - whole}")


if "--memory" in sys.argv[4:]:
    layout = sys.argv[sys.argv.index("--memory") + 1]
    print_growth(sys.argv[3], getattr(torch, layout), int(SECONDS))
    sys.exit()


def wait():
    if DEVICE == "cuda":
        torch.cuda.synchronize()


def speed(step, seconds):
    for _ in range(3 if DEVICE == "cuda" else 1):
        step()
    wait()
    begin, steps = time.perf_counter(), 0
    while time.perf_counter() - begin < seconds or not steps:
        step()
        steps += 1
        if steps % 10 == 0:
            wait()
    wait()
    return steps / (time.perf_counter() - begin)


for name, case in STEPS.items():
    if not CASES.search(name):
        continue
    fastest, step = max(((speed(s, SECONDS / BLOCKS), s) for s in ways(*case, "_bf16_" in name)), key=lambda pair: pair[0])
    steps = max(1, int(fastest * SECONDS / BLOCKS))
    for _ in range(BLOCKS):
        begin = time.perf_counter()
        for _ in range(steps):
            step()
        wait()
        each = (time.perf_counter() - begin) / steps
        peer = f"torch-{torch.__version__}" + ("-compile" if COMPILE else "")
        peer += "-f32" if "--no-tf32" in sys.argv[4:] else ""
        print(f"{peer}\t{name}\t{each * 1e6:.1f}", flush=True)
