"""SqueezeNet 1.0: AlexNet's accuracy with 1.25 million parameters.

Source: F. Iandola et al., "SqueezeNet: AlexNet-level accuracy with 50x fewer parameters and <0.5MB model
size" (2016), as the authors of Deep Compression released it, compressed, for ImageNet.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

#: Channels of the squeeze layers and of either expand layer, fire2 to fire9.
SQUEEZES = (16, 16, 32, 32, 48, 48, 64, 64)
EXPANDS = (64, 64, 128, 128, 192, 192, 256, 256)

#: Fire modules that are followed by pooling.
_POOLED = (4, 8)


class Fire(nn.Module):
    """A squeeze to few channels by 1×1, then 1×1 and 3×3 filters side by side; ReLU after each.

    Args:
        channels: of the input.
        squeeze: channels between.
        expand: channels of either half of the output.
    """

    def __init__(self, channels: int, squeeze: int, expand: int) -> None:
        super().__init__()
        self.squeeze = nn.Conv2d(channels, squeeze, 1)
        self.expand1x1 = nn.Conv2d(squeeze, expand, 1)
        self.expand3x3 = nn.Conv2d(squeeze, expand, 3, padding=1)

    def forward(self, features: Tensor) -> Tensor:
        """Map ``(B, channels, H, W)`` to ``(B, 2 · expand, H, W)``."""
        squeezed = self.squeeze(features).relu()
        return torch.cat((self.expand1x1(squeezed).relu(), self.expand3x3(squeezed).relu()), dim=1)


class SqueezeNet(nn.Module):
    """SqueezeNet 1.0 as Caffe has it, for images of 227×227.

    The released weights expect BGR in 0…255, less (104, 117, 123).

    Args:
        num_classes: size of the output.
        dropout: probability that a feature before the last convolution is dropped in training.
    """

    def __init__(self, num_classes: int = 1000, dropout: float = 0.5) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 96, 7, stride=2)
        channels = 96
        for number, (squeeze, expand) in enumerate(zip(SQUEEZES, EXPANDS, strict=True), start=2):
            self.add_module(f"fire{number}", Fire(channels, squeeze, expand))
            channels = 2 * expand
        self.conv10 = nn.Conv2d(channels, num_classes, 1)
        # Caffe rounds the size of a pooled map up.
        self.pool = nn.MaxPool2d(3, stride=2, ceil_mode=True)
        self.dropout = nn.Dropout(dropout)

    def forward(self, images: Tensor) -> Tensor:
        """Class scores (logits) of a batch.

        Args:
            images: ``(B, 3, 227, 227)``.

        Returns:
            Logits ``(B, num_classes)``.
        """
        features = self.pool(self.conv1(images).relu())  # (B, 96, 55, 55)
        for number in range(2, 2 + len(SQUEEZES)):
            features = self.get_submodule(f"fire{number}")(features)
            if number in _POOLED:
                features = self.pool(features)  # 27×27 after fire4, 13×13 after fire8
        maps = self.conv10(self.dropout(features)).relu()  # (B, num_classes, 13, 13)
        return maps.mean(dim=(2, 3))  # type: ignore[no-any-return]
