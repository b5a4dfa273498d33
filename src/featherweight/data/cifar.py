"""CIFAR-10 and CIFAR-100: 50,000 images of 32×32 to train on, 10,000 to test.

Source: A. Krizhevsky, "Learning Multiple Layers of Features from Tiny Images" (2009),
https://www.cs.toronto.edu/~kriz/cifar.html.
"""

from __future__ import annotations

import tarfile
import zlib
from typing import TYPE_CHECKING, ClassVar, final

import numpy as np
import torch

from featherweight.data.base import ImageData
from featherweight.data.batches import Split
from featherweight.data.download import RemoteFile, download
from featherweight.data.image_folder import ImageFolder
from featherweight.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray

MIRRORS = ("https://www.cs.toronto.edu/~kriz/",)

_IMAGE_SHAPE = (3, 32, 32)
_IMAGE_BYTES = 3 * 32 * 32

#: Of the training pixels of CIFAR-10, per channel.
CIFAR10_MEAN, CIFAR10_STD = (0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)


class CifarArchive(ImageData):
    """What CIFAR-10 and CIFAR-100 have in common: files of records, a few label bytes and 3,072 pixels each.

    The *binary* version is read, from its archive as it is or unpacked beside it. The Python version is
    not: it is a pickle, which can run any code when it is loaded.

    Attributes:
        folder: in the data root.
        archive: the packed files, downloaded into ``folder`` if need be.
        inner: the archive's folder of files.
        train_files: names of the files in it.
        test_files: likewise.
        label_bytes: of a record; the last one is the label.
    """

    input_shape = _IMAGE_SHAPE
    folder: ClassVar[str]
    archive: ClassVar[RemoteFile]
    inner: ClassVar[str]
    train_files: ClassVar[tuple[str, ...]]
    test_files: ClassVar[tuple[str, ...]]
    label_bytes: ClassVar[int]

    @property
    @final
    def directory(self) -> Path:
        """Where the archive lies."""
        return self.root / self.folder

    @final
    def load(self) -> tuple[Split, Split]:
        """Read all records, after fetching the archive where neither it nor its files are there.

        Raises:
            DataError: if the data can be neither found nor fetched, or are not what they should be.
        """
        unpacked = self.directory / self.inner
        names = (*self.train_files, *self.test_files)
        if unpacked.is_dir():
            missing = [name for name in names if not (unpacked / name).is_file()]
            if missing:
                raise DataError(
                    f"{unpacked}: {', '.join(missing)} missing; unpack {self.archive.name} there again, "
                    f"or delete the folder to have it downloaded"
                )
            contents = {name: (unpacked / name).read_bytes() for name in names}
        else:
            path = self.directory / self.archive.name
            if not path.is_file():
                download([self.archive], MIRRORS, self.directory, dataset=self.name)
            contents = _unpack(path, self.inner, names)
        return self._split(contents, self.train_files), self._split(contents, self.test_files)

    def _split(self, contents: dict[str, bytes], names: Sequence[str]) -> Split:
        records = np.concatenate([self._records(name, contents[name]) for name in names])
        labels = records[:, self.label_bytes - 1].astype(np.int64)
        if labels.max() >= self.num_classes:
            raise DataError(
                f"{self.directory}: {', '.join(names)}: labels must be below {self.num_classes}, "
                f"there is {labels.max()}; is it {self.name}?"
            )
        pixels = np.ascontiguousarray(records[:, self.label_bytes :])  # (N, 3072), red plane first
        return Split(torch.from_numpy(pixels).view(-1, *_IMAGE_SHAPE), torch.from_numpy(labels))

    def _records(self, name: str, data: bytes) -> NDArray[np.uint8]:
        """The records of one file, ``(N, label_bytes + 3072)``."""
        record = self.label_bytes + _IMAGE_BYTES
        if not data or len(data) % record:
            raise DataError(
                f"{self.directory}: {name} must hold records of {record:,} bytes, it holds {len(data):,} "
                f"bytes; delete it and get {self.archive.name} from {MIRRORS[0]} again"
            )
        return np.frombuffer(data, np.uint8).reshape(-1, record)


class CIFAR10(CifarArchive):
    """CIFAR-10 with its original pixels, from ``cifar10/cifar-10-binary.tar.gz`` in the data root."""

    name = "CIFAR-10"
    num_classes = 10
    mean, std = CIFAR10_MEAN, CIFAR10_STD
    folder = "cifar10"
    archive = RemoteFile(
        "cifar-10-binary.tar.gz",
        "c4a38c50a1bc5f3a1c5537f2155ab9d68f9f25eb1ed8d9ddda3db29a59bca1dd",
        as_it_is=True,
    )
    inner = "cifar-10-batches-bin"
    train_files = tuple(f"data_batch_{i}.bin" for i in range(1, 6))
    test_files = ("test_batch.bin",)
    label_bytes = 1


class CIFAR100(CifarArchive):
    """CIFAR-100 with its 100 fine labels, from ``cifar100/cifar-100-binary.tar.gz`` in the data root."""

    name = "CIFAR-100"
    num_classes = 100
    mean, std = (0.5071, 0.4865, 0.4409), (0.2673, 0.2564, 0.2762)
    folder = "cifar100"
    archive = RemoteFile(
        "cifar-100-binary.tar.gz",
        "58a81ae192c23a4be8b1804d68e518ed807d710a4eb253b1f2a199162a40d8ec",
        as_it_is=True,
    )
    inner = "cifar-100-binary"
    train_files = ("train.bin",)
    test_files = ("test.bin",)
    label_bytes = 2  # the coarse label, then the fine one


class CIFAR10JPEG(ImageFolder):
    """CIFAR-10 as JPEG files, ``train/CLASS/NNNN.jpg`` and ``test/CLASS/NNNN.jpg``, in a folder or zip file.

    Accuracies are some points below those on the original pixels, so results name it "CIFAR-10 (JPEG)".

    Args:
        path: the folder or the zip file, relative to the data root.
        mean: of the pixels in 0…1, per channel or one for all.
        std: their standard deviation, likewise.
        batch_size: see :class:`ImageData`, as the arguments below.
        eval_batch_size: images in a validation or test batch.
        validation_split: fraction or number of training images kept for validation.
        shift: pixels by which training images are moved at random, at most.
        seed: of the validation split, the order, the shifts and the flips.
        data_root: the folder of all data sets.
        flip: mirror half of the training images, left to right.
    """

    name = "CIFAR-10 (JPEG)"

    #: In the order of CIFAR-10's labels.
    CLASSES = (
        "airplane",
        "automobile",
        "bird",
        "cat",
        "deer",
        "dog",
        "frog",
        "horse",
        "ship",
        "truck",
    )

    def __init__(
        self,
        path: str = "cifar10-jpeg/cifar10-jpeg.zip",
        mean: Sequence[float] = CIFAR10_MEAN,
        std: Sequence[float] = CIFAR10_STD,
        batch_size: int = 128,
        eval_batch_size: int = 500,
        validation_split: int | float = 0.1,
        shift: int = 0,
        seed: int = 0,
        data_root: str | None = None,
        flip: bool = False,
    ) -> None:
        super().__init__(
            path,
            _IMAGE_SHAPE[-1],
            classes=self.CLASSES,
            mean=mean,
            std=std,
            batch_size=batch_size,
            eval_batch_size=eval_batch_size,
            validation_split=validation_split,
            shift=shift,
            seed=seed,
            data_root=data_root,
            flip=flip,
        )


def _unpack(path: Path, inner: str, names: Sequence[str]) -> dict[str, bytes]:
    """Files of a gzipped tar archive, by name; nothing is written to disk."""
    contents = {}
    try:
        with tarfile.open(path, "r:gz") as archive:
            for member in archive:
                folder, _, name = member.name.removeprefix("./").rpartition("/")
                file = archive.extractfile(member) if folder == inner and name in names else None
                if file is not None:
                    contents[name] = file.read()
    except (tarfile.TarError, zlib.error, EOFError, OSError) as error:
        raise DataError(
            f"{path}: is no whole archive ({error}); delete it and run again to download it"
        ) from None
    missing = [name for name in names if name not in contents]
    if missing:
        raise DataError(f"{path}: holds no {inner}/{missing[0]}; is it the binary version of the data set?")
    return contents
