"""A network with all that inputs correct: batch norm, a convolution and a fully connected end with biases."""

from __future__ import annotations

import torch
from torch import nn


class Net(nn.Module):
    """For images of 28×28 in ten classes."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(1, 6, 5, stride=3, bias=False)  # (B, 6, 8, 8)
        self.bn = nn.BatchNorm2d(6)
        self.conv2 = nn.Conv2d(6, 8, 3)  # (B, 8, 6, 6)
        self.fc = nn.Linear(8, 10)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        hidden = torch.relu(self.bn(self.conv1(images)))
        return self.fc(torch.relu(self.conv2(hidden)).mean((2, 3)))
