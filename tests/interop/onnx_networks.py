"""Networks for the tests of ONNX files: some that can be exported, and some that cannot."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class Tokens(nn.Module):
    """An embedding and a head that is tied to it, as language models have them."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(50, 64)
        self.head = nn.Linear(64, 50, bias=False)
        self.head.weight = self.embed.weight

    def forward(self, tokens: Tensor) -> Tensor:
        return self.head(self.embed(tokens))


class Convolutions(nn.Module):
    """Two convolutions and a linear layer, for images (1, 28, 28)."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(1, 8, 5, stride=3)  # (N, 8, 8, 8)
        self.conv2 = nn.Conv2d(8, 16, 3, stride=2)  # (N, 16, 3, 3)
        self.fc = nn.Linear(144, 10)

    def forward(self, images: Tensor) -> Tensor:
        return self.fc(self.conv2(self.conv1(images).relu()).relu().flatten(1))


class Bessel(nn.Module):
    """Asks for an operation that ONNX has not."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.special.bessel_j0(x)


class Branching(nn.Module):
    """Decides by what a tensor holds."""

    def forward(self, x: Tensor) -> Tensor:
        if x.sum() > 0:
            return x + 1
        return x


class FixedBatch(nn.Module):
    """Takes batches of 4 alone."""

    def forward(self, x: Tensor) -> Tensor:
        return x.view(4, 9)


class Noisy(nn.Module):
    """Adds noise in inference, too."""

    def forward(self, x: Tensor) -> Tensor:
        return x + torch.rand_like(x)
