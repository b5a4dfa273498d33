"""VGG-16: thirteen 3×3 convolutions and three fully connected layers.

Source: K. Simonyan, A. Zisserman, "Very Deep Convolutional Networks for Large-Scale Image Recognition"
(2014), configuration D.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from featherweight.errors import RecipeError

#: Channels of the convolutions between two poolings.
BLOCKS = ((64, 64), (128, 128), (256, 256, 256), (512, 512, 512), (512, 512, 512))

#: Units of either hidden fully connected layer.
HIDDEN = 4096

#: How much smaller the last feature map is than the image.
_REDUCTION = 2 ** len(BLOCKS)


class VGG16(nn.Module):
    """VGG-16, its convolutions named ``conv1_1`` to ``conv5_3``, then ``fc6``, ``fc7`` and ``fc8``.

    65,095,498 parameters for images of 128×128 and 10 classes, 138,357,544 for 224×224 and 1,000.

    Args:
        num_classes: size of the output.
        size: height and width of the images, pixels; a multiple of 32.
        dropout: probability that a unit of ``fc6`` or ``fc7`` is dropped in training.
        in_channels: channels of the input images.
        batch_norm: normalise after each convolution (``bn1_1``, …), which trains from scratch with ease.

    Raises:
        RecipeError: if ``size`` is no multiple of 32.
    """

    def __init__(
        self,
        num_classes: int = 10,
        size: int = 128,
        dropout: float = 0.5,
        in_channels: int = 3,
        batch_norm: bool = False,
    ) -> None:
        super().__init__()
        if size < _REDUCTION or size % _REDUCTION:
            raise RecipeError(f"size of VGG-16's images is a multiple of {_REDUCTION}, got {size}")
        self.batch_norm = batch_norm
        channels = in_channels
        for i, widths in enumerate(BLOCKS, start=1):
            for j, width in enumerate(widths, start=1):
                self.add_module(f"conv{i}_{j}", nn.Conv2d(channels, width, 3, padding=1))
                if batch_norm:
                    self.add_module(f"bn{i}_{j}", nn.BatchNorm2d(width))
                channels = width
        self.pool = nn.MaxPool2d(2)
        self.fc6 = nn.Linear(channels * (size // _REDUCTION) ** 2, HIDDEN)
        self.fc7 = nn.Linear(HIDDEN, HIDDEN)
        self.fc8 = nn.Linear(HIDDEN, num_classes)
        self.dropout = nn.Dropout(dropout)
        initialize(self)

    def forward(self, images: Tensor) -> Tensor:
        """Class scores (logits) ``(B, num_classes)`` of images ``(B, in_channels, size, size)``."""
        features = images
        for i, widths in enumerate(BLOCKS, start=1):
            for j in range(1, len(widths) + 1):
                features = self.get_submodule(f"conv{i}_{j}")(features)
                if self.batch_norm:
                    features = self.get_submodule(f"bn{i}_{j}")(features)
                features = features.relu()
            features = self.pool(features)  # (B, widths[-1], size / 2^i, size / 2^i)
        hidden = self.dropout(self.fc6(features.flatten(1)).relu())  # (B, 4096)
        hidden = self.dropout(self.fc7(hidden).relu())  # (B, 4096)
        logits: Tensor = self.fc8(hidden)
        return logits


@torch.no_grad()
def initialize(network: nn.Module) -> None:
    """He's initialization of convolutions and fully connected layers, so that deep plain networks train.

    Source: K. He et al., "Delving Deep into Rectifiers" (2015).

    Args:
        network: changed in place; its biases become 0.
    """
    for module in network.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
            if module.bias is not None:
                nn.init.zeros_(module.bias)
