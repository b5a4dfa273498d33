"""LeNet-5 with few filters at first and many after, for experiments on how sensitive layers are."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import nn

if TYPE_CHECKING:
    from torch import Tensor


class LeNet5Wide(nn.Module):
    """LeNet-5 with 6 and 96 filters and three fully connected layers; 313,470 weights on MNIST.

    Weights by layer: conv1 150, conv2 14,400, fc1 288,000, fc2 10,080, fc3 840. Images of 28×28 are padded to
    32×32, as LeCun's network has them (LeCun et al. 1998, "Gradient-based learning applied to document
    recognition", which has 16 filters in its second convolution).

    Args:
        num_classes: size of the output.
        in_channels: channels of the input images.
    """

    def __init__(self, num_classes: int = 10, in_channels: int = 1) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, 6, kernel_size=5, padding=2)
        self.conv2 = nn.Conv2d(6, 96, kernel_size=5)
        self.pool = nn.MaxPool2d(2)
        self.fc1 = nn.Linear(96 * 5 * 5, 120)
        self.fc2 = nn.Linear(120, 84)
        self.fc3 = nn.Linear(84, num_classes)

    def forward(self, images: Tensor) -> Tensor:
        """Class scores (logits) of a batch.

        Args:
            images: ``(B, in_channels, 28, 28)``.

        Returns:
            Logits ``(B, num_classes)``.
        """
        maps = self.pool(self.conv1(images)).relu()  # (B, 6, 14, 14)
        maps = self.pool(self.conv2(maps)).relu()  # (B, 96, 5, 5)
        hidden = self.fc2(self.fc1(maps.flatten(1)).relu()).relu()  # (B, 84)
        logits: Tensor = self.fc3(hidden)
        return logits
