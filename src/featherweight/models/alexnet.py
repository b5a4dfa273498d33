"""AlexNet on one device: five convolutions and three fully connected layers.

Source: A. Krizhevsky, I. Sutskever, G. Hinton, "ImageNet Classification with Deep Convolutional Neural
Networks" (2012), in the widths of A. Krizhevsky, "One weird trick for parallelizing convolutional neural
networks" (2014).
"""

from __future__ import annotations

from torch import Tensor, nn

from featherweight.models.vgg import initialize

#: Units of either hidden fully connected layer.
HIDDEN = 4096

#: Height and width of the map that the fully connected layers see.
_MAP = 6


class AlexNet(nn.Module):
    """AlexNet, ``conv1`` to ``conv5`` and ``fc6`` to ``fc8``; 57,044,810 parameters with 10 classes.

    The fully connected layers see a map of 6×6, whatever the size of the images. Images of 128×128 give
    just that with a first ``stride`` of 2, those of 224×224 with 4. From other sizes it is averaged, and
    where the map is smaller (128×128 with 4: a quarter of the work), its values are repeated.

    Args:
        num_classes: size of the output.
        dropout: probability that an input of ``fc6`` or ``fc7`` is dropped in training.
        in_channels: channels of the input images.
        stride: of the first convolution.
    """

    def __init__(
        self, num_classes: int = 10, dropout: float = 0.5, in_channels: int = 3, stride: int = 2
    ) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, 64, 11, stride, padding=2)
        self.conv2 = nn.Conv2d(64, 192, 5, padding=2)
        self.conv3 = nn.Conv2d(192, 384, 3, padding=1)
        self.conv4 = nn.Conv2d(384, 256, 3, padding=1)
        self.conv5 = nn.Conv2d(256, 256, 3, padding=1)
        self.pool = nn.MaxPool2d(3, stride=2)
        self.to_map = nn.AdaptiveAvgPool2d(_MAP)
        self.fc6 = nn.Linear(256 * _MAP * _MAP, HIDDEN)
        self.fc7 = nn.Linear(HIDDEN, HIDDEN)
        self.fc8 = nn.Linear(HIDDEN, num_classes)
        self.dropout = nn.Dropout(dropout)
        initialize(self)

    def forward(self, images: Tensor) -> Tensor:
        """Class scores (logits) ``(B, num_classes)`` of images ``(B, in_channels, H, W)``."""
        features = self.pool(self.conv1(images).relu())  # of 128×128 and stride 2: (B, 64, 30, 30)
        features = self.pool(self.conv2(features).relu())  # (B, 192, 14, 14)
        features = self.conv4(self.conv3(features).relu()).relu()  # (B, 256, 14, 14)
        features = self.pool(self.conv5(features).relu())  # (B, 256, 6, 6)
        hidden = self.dropout(self.to_map(features).flatten(1))  # (B, 9216)
        hidden = self.dropout(self.fc6(hidden).relu())  # (B, 4096)
        logits: Tensor = self.fc8(self.fc7(hidden).relu())
        return logits
