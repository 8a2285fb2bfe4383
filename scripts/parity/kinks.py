"""Batches at which a network is differentiable for every rounding.

ReLU and max pooling have kinks, where the gradient jumps. If an input of a ReLU is closer to 0 than f32's rounding
errors, two correct programs may stand on different sides, and their gradients differ by what that element passes on,
far more than by rounding. PyTorch in f32 against PyTorch in f64 shows the same jumps (docs/parity.md). Such a batch
cannot tell right from wrong to 1e-4.
"""
import torch
from torch import nn

from networks import draw, make

MARGIN = 6  # distance to the nearest kink, in root mean square rounding errors of the layer's input
TRIES = 200


def layer_inputs(model, x):
    """What every ReLU and every max pooling reads in a forward pass, in order."""
    seen = []
    hooks = [m.register_forward_hook(lambda module, inputs, _: seen.append((module, inputs[0])))
             for m in model.modules() if isinstance(m, (nn.ReLU, nn.MaxPool2d))]
    with torch.no_grad():
        model(x)
    for hook in hooks:
        hook.remove()
    return seen


def distance(module, x):
    """From the nearest kink: |x| of a ReLU; of a 2x2 pooling, how far the largest is ahead where it is positive (two
    zeros behind a ReLU are no matter, neither passes a gradient on)."""
    if isinstance(module, nn.ReLU):
        return x.abs().min().item()
    n, c, h, w = x.shape
    windows = x[:, :, : h // 2 * 2, : w // 2 * 2].reshape(n, c, h // 2, 2, w // 2, 2).transpose(3, 4).flatten(4)
    first, second = windows.topk(2).values.unbind(-1)
    return (first - second)[first > 0].min().item()


def smooth(exact, rounded, inputs):
    for (module, x), (_, y) in zip(layer_inputs(exact, inputs.double()), layer_inputs(rounded, inputs)):
        if distance(module, x) < MARGIN * (x - y).square().mean().sqrt().item():
            return False
    return True


def smooth_batch(name, training, size):
    """The number of the first batch that is far enough from all kinks, and its inputs."""
    exact, rounded = make(name, training).double(), make(name, training)
    for number in range(TRIES):
        inputs = draw(f"inputs.{number}", (size, *rounded.sample))
        if smooth(exact, rounded, inputs):
            return number, inputs
    raise SystemExit(f"{name}: all of {TRIES} batches of {size} are too close to a kink; take a smaller batch")
