"""MNIST: 60,000 handwritten digits to train on, 10,000 to test."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from featherweight.data.base import ImageData
from featherweight.data.batches import Split
from featherweight.data.download import RemoteFile, download
from featherweight.data.idx import read_idx
from featherweight.errors import DataError

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

TRAIN_IMAGES = RemoteFile(
    "train-images-idx3-ubyte.gz", "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db"
)
TRAIN_LABELS = RemoteFile(
    "train-labels-idx1-ubyte.gz", "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5"
)
TEST_IMAGES = RemoteFile(
    "t10k-images-idx3-ubyte.gz", "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7"
)
TEST_LABELS = RemoteFile(
    "t10k-labels-idx1-ubyte.gz", "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2"
)
FILES = (TRAIN_IMAGES, TRAIN_LABELS, TEST_IMAGES, TEST_LABELS)

MIRRORS = (
    "https://ossci-datasets.s3.amazonaws.com/mnist/",
    "https://storage.googleapis.com/cvdf-datasets/mnist/",
    "http://yann.lecun.com/exdb/mnist/",
)


class MNIST(ImageData):
    """Digits of 28×28 pixels, read from ``mnist/`` in the data root and downloaded there if need be.

    The four IDX files may be gzipped (``….gz``) or not.

    Source: Y. LeCun, C. Cortes, C. J. C. Burges, "The MNIST database of handwritten digits".
    """

    name = "MNIST"
    num_classes = 10
    input_shape = (1, 28, 28)
    mean = (0.1307,)
    std = (0.3081,)

    @property
    def directory(self) -> Path:
        """Where the four files lie."""
        return self.root / "mnist"

    def load(self) -> tuple[Split, Split]:
        """Read the four files, after fetching those that are missing.

        Raises:
            DataError: if a file can be neither found nor fetched, or is not what it should be.
        """
        missing = [file for file in FILES if _find(self.directory, file) is None]
        if missing:
            download(missing, MIRRORS, self.directory, dataset=self.name)
        return self._read(TRAIN_IMAGES, TRAIN_LABELS), self._read(TEST_IMAGES, TEST_LABELS)

    def _read(self, images_file: RemoteFile, labels_file: RemoteFile) -> Split:
        images_path, images = self._array(images_file)
        labels_path, labels = self._array(labels_file)
        _, height, width = self.input_shape
        if images.dtype != np.uint8 or images.shape[1:] != (height, width):
            raise DataError(
                f"{images_path} must hold uint8 images of {height}×{width}, "
                f"it holds {images.dtype} {images.shape}"
            )
        if labels.dtype != np.uint8 or labels.shape != images.shape[:1]:
            raise DataError(
                f"{labels_path} must hold {len(images)} uint8 labels, one for each image in "
                f"{images_path.name}; "
                f"it holds {labels.dtype} {labels.shape}"
            )
        if labels.size and labels.max() >= self.num_classes:
            raise DataError(
                f"{labels_path} must hold labels below {self.num_classes}, it holds {labels.max()}"
            )
        return Split(torch.from_numpy(images)[:, None], torch.from_numpy(labels.astype(np.int64)))

    def _array(self, file: RemoteFile) -> tuple[Path, NDArray[Any]]:
        path = _find(self.directory, file)
        if path is None:
            raise DataError(f"{self.directory / file.name} was there and is gone; run again to download it")
        return path, read_idx(path)


def _find(directory: Path, file: RemoteFile) -> Path | None:
    """The file's path, uncompressed or gzipped."""
    plain = directory / file.name.removesuffix(".gz")
    return next((path for path in (plain, directory / file.name) if path.exists()), None)
