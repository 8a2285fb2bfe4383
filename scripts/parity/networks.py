"""Networks of models/zoo in PyTorch, with the same names of parameters and buffers, and values for them by a rule.

The rule (`draw`) gives every tensor from its name, the same bits here and in tests/models/parity_test.cpp, so that
recorded vectors need not hold the weights.
"""
import math

import torch
import torch.nn.functional as F
from torch import nn


class LeNet(nn.Module):
    sample = (1, 28, 28)

    def __init__(self, dropout):
        super().__init__()
        self.conv1, self.conv2 = nn.Conv2d(1, 32, 5, padding=2), nn.Conv2d(32, 64, 5, padding=2)
        self.fc1, self.fc2 = nn.Linear(64 * 7 * 7, 512), nn.Linear(512, 10)
        self.relu, self.pool, self.drop = nn.ReLU(), nn.MaxPool2d(2), nn.Dropout(dropout)

    def forward(self, x):
        x = self.pool(self.relu(self.conv1(x)))
        x = self.pool(self.relu(self.conv2(x)))
        return self.fc2(self.drop(self.relu(self.fc1(x.flatten(1)))))


class Block(nn.Module):
    """Two 3x3 convolutions; the shortcut has no parameters (He et al. 2016, section 4.2, option A)."""

    def __init__(self, inputs, outputs, stride):
        super().__init__()
        self.stride, self.missing = stride, outputs - inputs
        self.conv1, self.bn1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False), nn.BatchNorm2d(outputs)
        self.conv2, self.bn2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False), nn.BatchNorm2d(outputs)
        self.relu = nn.ReLU()

    def forward(self, x):
        y = self.bn2(self.conv2(self.relu(self.bn1(self.conv1(x)))))
        left = self.missing // 2
        shortcut = F.pad(x[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, left, self.missing - left))
        return self.relu(y + shortcut)


class ResNet20(nn.Module):
    sample = (3, 32, 32)

    def __init__(self, dropout):
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(3, 16, 3, padding=1, bias=False), nn.BatchNorm2d(16)
        self.layer1 = nn.Sequential(*[Block(16, 16, 1) for _ in range(3)])
        self.layer2 = nn.Sequential(Block(16, 32, 2), Block(32, 32, 1), Block(32, 32, 1))
        self.layer3 = nn.Sequential(Block(32, 64, 2), Block(64, 64, 1), Block(64, 64, 1))
        self.fc, self.relu = nn.Linear(64, 10), nn.ReLU()

    def forward(self, x):
        x = self.layer3(self.layer2(self.layer1(self.relu(self.bn1(self.conv1(x))))))
        return self.fc(x.mean((2, 3)))


class Vgg16(nn.Module):
    sample = (3, 32, 32)

    def __init__(self, dropout):
        super().__init__()
        layers, inputs = [], 3
        for convolutions, width in ((2, 64), (2, 128), (3, 256), (3, 512), (3, 512)):
            for _ in range(convolutions):
                layers += [nn.Conv2d(inputs, width, 3, padding=1), nn.BatchNorm2d(width), nn.ReLU()]
                inputs = width
            layers.append(nn.MaxPool2d(2))
        self.features = nn.Sequential(*layers)
        self.classifier = nn.Sequential(nn.Dropout(dropout), nn.Linear(512, 512), nn.ReLU(), nn.Dropout(dropout),
                                        nn.Linear(512, 512), nn.ReLU(), nn.Linear(512, 10))

    def forward(self, x):
        return self.classifier(self.features(x).flatten(1))


NETWORKS = {"lenet": LeNet, "resnet20": ResNet20, "vgg16": Vgg16}
DROPOUT = {"vgg16": 0.5}  # rates of the zoo; 0 where not named


def product32(x, factor):
    """x * factor mod 2^32 for 0 <= x < 2^32, by halves: the whole product does not fit int64."""
    return (x * (factor & 0xFFFF) + ((x * (factor >> 16) & 0xFFFF) << 16)) & 0xFFFFFFFF


def noise(name, count):
    """`count` numbers in [-1, 1), multiples of 2^-23, in f64: FNV-1a of the name, MurmurHash3's finalizer of each."""
    key = 0x811C9DC5
    for byte in name.encode():
        key = (key ^ byte) * 0x01000193 & 0xFFFFFFFF
    x = (product32(torch.arange(count), 0x9E3779B1) + key) & 0xFFFFFFFF
    x = product32(x ^ (x >> 16), 0x85EBCA6B)
    x = product32(x ^ (x >> 13), 0xC2B2AE35)
    x = x ^ (x >> 16)
    return (x >> 8).double() * 2.0 ** -23 - 1


def draw(name, shape):
    """The f32 value of a parameter, buffer, `inputs.<number>` or `z.<parameter>`: centre + spread * noise."""
    centre, spread = 0.0, 0.25
    if name.startswith(("inputs.", "z.")):
        spread = math.sqrt(3)  # variance 1
    elif name.endswith("running_var"):
        centre, spread = 1.5, 0.75
    elif len(shape) > 1:
        spread = math.sqrt(6 / math.prod(shape[1:]))  # variance 2 / fan-in (He et al. 2015)
    elif name.endswith("weight"):
        centre = 1.0  # of batch norm
    return (centre + spread * noise(name, math.prod(shape))).float().reshape(shape)


def make(name, training):
    """A network filled by the rule. Dropout's masks cannot be the same in two frameworks: none in training."""
    model = NETWORKS[name](0 if training else DROPOUT.get(name, 0))
    with torch.no_grad():
        for key, tensor in model.state_dict().items():
            if not key.endswith("num_batches_tracked"):
                tensor.copy_(draw(key, tensor.shape))
    return model.train(training)


def labels(size):
    return torch.arange(size) * 7 % 10
