"""The two LeNets that papers on compression measure on MNIST.

Source: Y. LeCun et al., "Gradient-based learning applied to document recognition" (1998), in the
variants of S. Han, H. Mao, W. J. Dally, "Deep Compression" (2015). Weights start from PyTorch's
default initialization.
"""

from __future__ import annotations

from torch import Tensor, nn

from featherweight.errors import RecipeError


class LeNet300(nn.Module):
    """LeNet-300-100: two hidden layers of 300 and 100 ReLU units; 266,610 parameters on MNIST.

    Args:
        num_classes: size of the output.
        dropout: probability that a hidden unit is dropped in training.
        in_features: elements of one input, 784 for an image of 28×28.
    """

    def __init__(self, num_classes: int = 10, dropout: float = 0.0, in_features: int = 784) -> None:
        super().__init__()
        self.fc1 = nn.Linear(in_features, 300)
        self.fc2 = nn.Linear(300, 100)
        self.fc3 = nn.Linear(100, num_classes)
        self.dropout = nn.Dropout(dropout)

    def forward(self, images: Tensor) -> Tensor:
        """Class scores (logits) of a batch.

        Args:
            images: ``(B, ...)``, flattened here to ``(B, in_features)``.

        Returns:
            Logits ``(B, num_classes)``.
        """
        hidden = self.dropout(self.fc1(images.flatten(1)).relu())  # (B, 300)
        hidden = self.dropout(self.fc2(hidden).relu())  # (B, 100)
        logits: Tensor = self.fc3(hidden)
        return logits


class LeNet5(nn.Module):
    """LeNet-5 as Caffe has it and Deep Compression measures it; 431,080 parameters on MNIST.

    Two 5×5 convolutions (20 and 50 filters), each followed by 2×2 max-pooling and by nothing else:
    the maximum is their only nonlinearity, as in Caffe's ``lenet_train_test.prototxt``. Then 500 ReLU
    units and the output. Inputs are images of 28×28.

    Args:
        num_classes: size of the output.
        dropout: probability that one of the 500 hidden units is dropped in training.
        in_channels: channels of the input images.
        size: height and width of the images, pixels: 28, or 32 of CIFAR; 16 or more, a multiple of 4.

    Raises:
        RecipeError: for another size.
    """

    def __init__(
        self, num_classes: int = 10, dropout: float = 0.0, in_channels: int = 1, size: int = 28
    ) -> None:
        if size < 16 or size % 4:
            raise RecipeError(f"size of LeNet-5's images is 16 or more and a multiple of 4, got {size}")
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, 20, kernel_size=5)
        self.conv2 = nn.Conv2d(20, 50, kernel_size=5)
        self.pool = nn.MaxPool2d(2)
        self.fc1 = nn.Linear(50 * (size // 4 - 3) ** 2, 500)
        self.fc2 = nn.Linear(500, num_classes)
        self.dropout = nn.Dropout(dropout)

    def forward(self, images: Tensor) -> Tensor:
        """Class scores (logits) of a batch.

        Args:
            images: ``(B, in_channels, size, size)``.

        Returns:
            Logits ``(B, num_classes)``.
        """
        maps = self.pool(self.conv1(images))  # of 28×28: (B, 20, 12, 12)
        maps = self.pool(self.conv2(maps))  # (B, 50, 4, 4)
        hidden = self.dropout(self.fc1(maps.flatten(1)).relu())  # (B, 500)
        logits: Tensor = self.fc2(hidden)
        return logits
