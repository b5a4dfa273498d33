"""The handwritten digits that come with scikit-learn: real images, and nothing to download."""

from __future__ import annotations

import numpy as np
import torch
from torch.nn import functional as F

from featherweight.data.base import ImageData
from featherweight.data.batches import Split

#: The largest pixel of the original images.
_MAX_PIXEL = 16.0

_TEST_FRACTION = 0.3


class Digits(ImageData):
    """1,797 digits of 8×8 pixels, scaled bilinearly to MNIST's 28×28: 1,257 to train on, 540 to test.

    The test set is a fixed, stratified 30 %, whatever the seed. Writers are not told apart in the
    data, so some have digits in both parts.

    Source: E. Alpaydin, C. Kaynak, "Optical Recognition of Handwritten Digits", UCI (1998), its test set.
    """

    name = "digits"
    num_classes = 10
    input_shape = (1, 28, 28)
    mean = (0.3056,)
    std = (0.3248,)

    def load(self) -> tuple[Split, Split]:
        """Scale the bundled images and divide them."""
        # Imported here, as scikit-learn takes a second to import.
        from sklearn.datasets import load_digits
        from sklearn.model_selection import train_test_split

        bunch = load_digits()
        small = torch.from_numpy(bunch.images.astype(np.float32))[:, None] / _MAX_PIXEL  # (1797, 1, 8, 8)
        images = F.interpolate(small, self.input_shape[1:], mode="bilinear")
        labels = torch.from_numpy(bunch.target.astype(np.int64))
        train, test = train_test_split(
            np.arange(len(labels)), test_size=_TEST_FRACTION, stratify=bunch.target, random_state=0
        )
        return Split(images[train], labels[train]), Split(images[test], labels[test])
