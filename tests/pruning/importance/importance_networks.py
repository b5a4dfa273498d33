"""Small networks in double precision, and examples for them."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from featherweight.pruning import Calibration, evaluating, importance_by_name


class Chain(nn.Module):
    """A convolution without padding, batch normalisation, pooling, and two linear layers."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 3, 3)  # (N, 3, 4, 4)
        self.norm = nn.BatchNorm2d(3)
        self.fc1 = nn.Linear(12, 5)
        self.fc2 = nn.Linear(5, 4)
        self.dropout = nn.Dropout(0.5)

    def forward(self, images: Tensor) -> Tensor:
        maps = F.avg_pool2d(torch.tanh(self.norm(self.conv(images))), 2)
        return self.fc2(self.dropout(torch.tanh(self.fc1(maps.flatten(1)))))


class Block(nn.Module):
    """A residual block whose shortcut is a convolution."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.shortcut = nn.Conv2d(inputs, outputs, 1, stride, bias=False) if stride > 1 else nn.Identity()

    def forward(self, maps: Tensor) -> Tensor:
        hidden = self.bn2(self.conv2(F.relu(self.bn1(self.conv1(maps)), inplace=True)))
        return torch.relu(hidden + self.shortcut(maps))


class SmallResidual(nn.Module):
    """The shape of a ResNet-20, with two blocks and few channels."""

    def __init__(self, channels: int = 4) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, channels, 3, padding=1, bias=False)
        self.bn = nn.BatchNorm2d(channels)
        self.block1 = Block(channels, channels, 1)
        self.block2 = Block(channels, 2 * channels, 2)
        self.fc = nn.Linear(2 * channels, 10)

    def forward(self, images: Tensor) -> Tensor:
        maps = self.block2(self.block1(F.relu(self.bn(self.conv(images)))))
        return self.fc(F.adaptive_avg_pool2d(maps, 1).flatten(1))


def make(kind: type[nn.Module] = Chain, seed: int = 0) -> nn.Module:
    """A network in double precision, in training mode, whose statistics are not the initial ones."""
    torch.manual_seed(seed)
    network = kind().double()
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.running_var, 0.5, 2)
            nn.init.normal_(module.running_mean)
            nn.init.normal_(module.weight)
    return network


def examples(number: int = 7, classes: int = 4, size: int = 6, seed: int = 1) -> list[tuple[Tensor, Tensor]]:
    """Two batches of unequal length."""
    generator = torch.Generator().manual_seed(seed)
    images = torch.randn(number, 1, size, size, generator=generator, dtype=torch.float64)
    labels = torch.randint(0, classes, (number,), generator=generator)
    cut = number // 2 + 1
    return [(images[:cut], labels[:cut]), (images[cut:], labels[cut:])]


def mean_loss(network: nn.Module, batches: list[tuple[Tensor, Tensor]]) -> Tensor:
    """The mean loss over all examples, without dropout."""
    images = torch.cat([x for x, _ in batches])
    labels = torch.cat([y for _, y in batches])
    modes = network.training
    loss = F.cross_entropy(network.eval()(images), labels)
    network.train(modes)
    return loss


def scores_of(name, network, batches, names, granularity="element", **options):
    """Scores of the named parameters as a recipe's rule gets them."""
    parameters = dict(network.named_parameters())
    calibration = Calibration(network, batches, F.cross_entropy)
    importance = importance_by_name(name, options)
    with evaluating(network):
        return importance.scores({n: parameters[n] for n in names}, granularity, calibration)
