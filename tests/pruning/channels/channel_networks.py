"""Small networks of the kinds that channel pruning has to get right."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from featherweight.models import CifarResNet


class Concatenation(nn.Module):
    """Two branches side by side, normalised together, then flattened."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 6, 3, padding=1)
        self.left = nn.Conv2d(6, 5, 1)
        self.right = nn.Conv2d(6, 8, 3, padding=1)
        self.norm = nn.BatchNorm2d(13)
        self.head = nn.Linear(13 * 4 * 4, 4)

    def forward(self, images: Tensor) -> Tensor:
        features = self.stem(images).relu()
        both = torch.cat((self.left(features), self.right(features)), dim=1)
        pooled = nn.functional.max_pool2d(self.norm(both).relu(), 2)
        logits: Tensor = self.head(pooled.flatten(1))
        return logits


class Grouped(nn.Module):
    """A convolution in four groups, a depthwise one and a pointwise one; one-dimensional ends."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, padding=1)
        self.grouped = nn.Conv2d(8, 12, 3, padding=1, groups=4)
        self.activation = nn.PReLU(12)
        self.depthwise = nn.Conv2d(12, 12, 3, stride=2, groups=12)
        self.pointwise = nn.Conv2d(12, 6, 1)
        self.head = nn.Linear(6, 4)

    def forward(self, images: Tensor) -> Tensor:
        features = self.activation(self.grouped(self.stem(images).relu()))
        features = self.pointwise(self.depthwise(features)).relu()
        logits: Tensor = self.head(features.mean(dim=(2, 3)))
        return logits


def randomize(network: nn.Module, seed: int = 0) -> nn.Module:
    """Evaluation mode, with statistics and factors of batch normalisation that matter."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for module in network.modules():
            if isinstance(module, nn.BatchNorm2d):
                for tensor, low in ((module.weight, 0.5), (module.running_var, 0.5)):
                    tensor.copy_(low + torch.rand(len(tensor), generator=generator))
                for tensor in (module.bias, module.running_mean):
                    tensor.copy_(torch.randn(len(tensor), generator=generator) / 4)
    return network.eval()


def resnet(shortcut: str = "A") -> nn.Module:
    torch.manual_seed(0)
    return randomize(CifarResNet(depth=8, num_classes=5, shortcut=shortcut))


def concatenation() -> nn.Module:
    torch.manual_seed(0)
    return randomize(Concatenation())


def grouped() -> nn.Module:
    torch.manual_seed(0)
    return randomize(Grouped())
