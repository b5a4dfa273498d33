"""LeNet-5 in three further forms that write-ups of Deep Compression measure on MNIST."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import nn

if TYPE_CHECKING:
    from torch import Tensor


class LeNet5Classic(nn.Module):
    """LeNet-5 with 6 and 16 filters and three fully connected layers; 61,706 parameters on MNIST.

    Images of 28×28 are padded to 32×32. Max-pooling and ReLU stand where the original has trainable
    averages and hyperbolic tangents (LeCun et al. 1998, "Gradient-based learning applied to document
    recognition").

    Args:
        num_classes: size of the output.
        in_channels: channels of the input images.
    """

    #: Filters of the second convolution.
    filters = 16

    def __init__(self, num_classes: int = 10, in_channels: int = 1) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, 6, kernel_size=5, padding=2)
        self.conv2 = nn.Conv2d(6, self.filters, kernel_size=5)
        self.pool = nn.MaxPool2d(2)
        self.fc1 = nn.Linear(self.filters * 5 * 5, 120)
        self.fc2 = nn.Linear(120, 84)
        self.fc3 = nn.Linear(84, num_classes)

    def forward(self, images: Tensor) -> Tensor:
        """Logits ``(B, num_classes)`` of images ``(B, in_channels, 28, 28)``."""
        maps = self.pool(self.conv1(images)).relu()  # (B, 6, 14, 14)
        maps = self.pool(self.conv2(maps)).relu()  # (B, filters, 5, 5)
        hidden = self.fc2(self.fc1(maps.flatten(1)).relu()).relu()  # (B, 84)
        logits: Tensor = self.fc3(hidden)
        return logits


class LeNet5Wide(LeNet5Classic):
    """The same with 96 filters in its second convolution, for experiments on how sensitive layers are.

    Weights by layer on MNIST: conv1 150, conv2 14,400, fc1 288,000, fc2 10,080, fc3 840.
    """

    filters = 96


class LeNet5ThreeConvs(nn.Module):
    """LeNet-5 with a third convolution in place of a layer, and 1,024 hidden units; 167,566 parameters.

    Weights by layer: conv1 150, conv2 2,400, conv3 30,720, fc1 122,880, fc2 10,240.

    Args:
        num_classes: size of the output.
        in_channels: channels of the input images.
    """

    def __init__(self, num_classes: int = 10, in_channels: int = 1) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, 6, kernel_size=5)
        self.conv2 = nn.Conv2d(6, 16, kernel_size=5)
        self.conv3 = nn.Conv2d(16, 120, kernel_size=4)
        self.pool = nn.MaxPool2d(2)
        self.fc1 = nn.Linear(120, 1024)
        self.fc2 = nn.Linear(1024, num_classes)

    def forward(self, images: Tensor) -> Tensor:
        """Logits ``(B, num_classes)`` of images ``(B, in_channels, 28, 28)``."""
        maps = self.pool(self.conv1(images).relu())  # (B, 6, 12, 12)
        maps = self.pool(self.conv2(maps).relu())  # (B, 16, 4, 4)
        features = self.conv3(maps).relu().flatten(1)  # (B, 120)
        logits: Tensor = self.fc2(self.fc1(features).relu())
        return logits
