"""Residual networks: ResNet-20, -32 and -56 for CIFAR, ResNet-18 for larger images.

Source: K. He, X. Zhang, S. Ren, J. Sun, "Deep Residual Learning for Image Recognition" (2015), sections
3.4 and 4.2. Names of parameters are those of the implementations whose checkpoints people publish.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from featherweight.errors import RecipeError

#: What a residual block does where its output has another shape than its input (section 3.3):
#: A pads with zero channels and has no parameters, B projects with a 1×1 convolution.
SHORTCUTS = ("A", "B")

#: Channels of the three stages of a ResNet for CIFAR, of the four of ResNet-18.
CIFAR_WIDTHS = (16, 32, 64)
WIDTHS = (64, 128, 256, 512)


class ZeroPadShortcut(nn.Module):
    """Option A: every ``stride``-th pixel of the input, and channels of zeros on both sides of its own.

    It has no parameters: how many zeros is known from what it is added to.

    Args:
        stride: of the pixels.
    """

    def __init__(self, stride: int) -> None:
        super().__init__()
        self.stride = stride

    def forward(self, features: Tensor, channels: int) -> Tensor:
        """Map ``(B, C, H, W)`` to ``(B, channels, ⌈H/stride⌉, ⌈W/stride⌉)``; half of the zeros come first."""
        zeros = channels - features.shape[1]
        pixels = features[:, :, :: self.stride, :: self.stride]
        return F.pad(pixels, (0, 0, 0, 0, zeros // 2, zeros - zeros // 2))


class BasicBlock(nn.Module):
    """Two 3×3 convolutions with batch normalisation, added to their own input.

    Args:
        in_channels: of the input.
        channels: of the output.
        stride: of the first convolution.
        shortcut: ``A`` or ``B`` (:data:`SHORTCUTS`), where the shapes differ.
    """

    def __init__(self, in_channels: int, channels: int, stride: int, shortcut: str) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, channels, 3, stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)
        self.downsample: nn.Sequential | None = None
        self.pad: ZeroPadShortcut | None = None
        if stride == 1 and in_channels == channels:
            return
        if shortcut == "A":
            self.pad = ZeroPadShortcut(stride)
        else:
            projection = nn.Conv2d(in_channels, channels, 1, stride, bias=False)
            self.downsample = nn.Sequential(projection, nn.BatchNorm2d(channels))

    def forward(self, features: Tensor) -> Tensor:
        """Map ``(B, in_channels, H, W)`` to ``(B, channels, H/stride, W/stride)``."""
        residual: Tensor = self.bn2(self.conv2(self.bn1(self.conv1(features)).relu()))
        if self.pad is not None:
            features = self.pad(features, residual.shape[1])
        elif self.downsample is not None:
            features = self.downsample(features)
        return (residual + features).relu()


class CifarResNet(nn.Module):
    """A ResNet for images of 32×32: 6n + 2 layers in three stages of 16, 32 and 64 channels.

    Args:
        depth: 6n + 2: 20, 32, 44, 56, …
        num_classes: size of the output.
        in_channels: channels of the input images.
        shortcut: ``A``, as in the paper's section 4.2, or ``B``.

    Raises:
        RecipeError: if the depth is not 6n + 2 or the shortcut unknown.
    """

    def __init__(
        self, depth: int = 20, num_classes: int = 10, in_channels: int = 3, shortcut: str = "A"
    ) -> None:
        super().__init__()
        if depth < 8 or (depth - 2) % 6:
            raise RecipeError(f"depth of a ResNet for CIFAR is 6n + 2 (20, 32, 44, 56, …), got {depth}")
        _check_shortcut(shortcut)
        blocks = (depth - 2) // 6
        self.conv1 = nn.Conv2d(in_channels, CIFAR_WIDTHS[0], 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(CIFAR_WIDTHS[0])
        self.layer1 = _stage(CIFAR_WIDTHS[0], CIFAR_WIDTHS[0], blocks, 1, shortcut)
        self.layer2 = _stage(CIFAR_WIDTHS[0], CIFAR_WIDTHS[1], blocks, 2, shortcut)
        self.layer3 = _stage(CIFAR_WIDTHS[1], CIFAR_WIDTHS[2], blocks, 2, shortcut)
        self.linear = nn.Linear(CIFAR_WIDTHS[2], num_classes)
        _initialize(self)

    def forward(self, images: Tensor) -> Tensor:
        """Class scores (logits) ``(B, num_classes)`` of images ``(B, in_channels, H, W)``."""
        features = self.bn1(self.conv1(images)).relu()  # (B, 16, 32, 32)
        features = self.layer3(self.layer2(self.layer1(features)))  # (B, 64, 8, 8)
        logits: Tensor = self.linear(features.mean(dim=(2, 3)))
        return logits


class ResNet20(CifarResNet):
    """ResNet-20 for CIFAR; 269,722 parameters with 10 classes and shortcuts A.

    Args:
        num_classes: size of the output.
        in_channels: channels of the input images.
        shortcut: ``A``, as in the paper's section 4.2, or ``B``.
    """

    def __init__(self, num_classes: int = 10, in_channels: int = 3, shortcut: str = "A") -> None:
        super().__init__(20, num_classes, in_channels, shortcut)


class ResNet32(CifarResNet):
    """ResNet-32 for CIFAR; 464,154 parameters with 10 classes and shortcuts A. Arguments of ResNet20."""

    def __init__(self, num_classes: int = 10, in_channels: int = 3, shortcut: str = "A") -> None:
        super().__init__(32, num_classes, in_channels, shortcut)


class ResNet56(CifarResNet):
    """ResNet-56 for CIFAR; 853,018 parameters with 10 classes and shortcuts A. Arguments of ResNet20."""

    def __init__(self, num_classes: int = 10, in_channels: int = 3, shortcut: str = "A") -> None:
        super().__init__(56, num_classes, in_channels, shortcut)


class ResNet18(nn.Module):
    """ResNet-18: four stages of two blocks, 64 to 512 channels; 11,689,512 parameters with 1,000 classes.

    Args:
        num_classes: size of the output.
        in_channels: channels of the input images.
        small_images: a 3×3 first convolution of stride 1 and no pooling, for images of about 32×32, in
            place of 7×7 of stride 2 and pooling.
        shortcut: ``B``, as in the paper's ImageNet models, or ``A``.

    Raises:
        RecipeError: if the shortcut is unknown.
    """

    def __init__(
        self,
        num_classes: int = 1000,
        in_channels: int = 3,
        small_images: bool = False,
        shortcut: str = "B",
    ) -> None:
        super().__init__()
        _check_shortcut(shortcut)
        kernel, stride = (3, 1) if small_images else (7, 2)
        self.conv1 = nn.Conv2d(in_channels, WIDTHS[0], kernel, stride, padding=kernel // 2, bias=False)
        self.bn1 = nn.BatchNorm2d(WIDTHS[0])
        self.maxpool = nn.Identity() if small_images else nn.MaxPool2d(3, stride=2, padding=1)
        self.layer1 = _stage(WIDTHS[0], WIDTHS[0], 2, 1, shortcut)
        self.layer2 = _stage(WIDTHS[0], WIDTHS[1], 2, 2, shortcut)
        self.layer3 = _stage(WIDTHS[1], WIDTHS[2], 2, 2, shortcut)
        self.layer4 = _stage(WIDTHS[2], WIDTHS[3], 2, 2, shortcut)
        self.fc = nn.Linear(WIDTHS[3], num_classes)
        _initialize(self)

    def forward(self, images: Tensor) -> Tensor:
        """Class scores (logits) ``(B, num_classes)`` of images ``(B, in_channels, H, W)``."""
        features = self.maxpool(self.bn1(self.conv1(images)).relu())
        features = self.layer4(self.layer3(self.layer2(self.layer1(features))))  # (B, 512, H/32, W/32)
        logits: Tensor = self.fc(features.mean(dim=(2, 3)))
        return logits


def _stage(in_channels: int, channels: int, blocks: int, stride: int, shortcut: str) -> nn.Sequential:
    first = BasicBlock(in_channels, channels, stride, shortcut)
    return nn.Sequential(first, *(BasicBlock(channels, channels, 1, shortcut) for _ in range(blocks - 1)))


def _check_shortcut(shortcut: str) -> None:
    if shortcut not in SHORTCUTS:
        raise RecipeError(f"unknown shortcut {shortcut!r}; known: {', '.join(SHORTCUTS)}")


@torch.no_grad()
def _initialize(network: nn.Module) -> None:
    """He's initialization of the convolutions; the rest starts as PyTorch has it."""
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
