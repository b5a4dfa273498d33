"""Images in folders named for their classes, in a directory or a zip file."""

from __future__ import annotations

import io
import zipfile
from collections import defaultdict
from pathlib import PurePosixPath
from typing import TYPE_CHECKING

import numpy as np
import torch

from featherweight.data.base import ImageData
from featherweight.data.batches import Split
from featherweight.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

#: Names of the folder of training images and of that of test images.
TRAIN_FOLDERS, TEST_FOLDERS = ("train",), ("test", "val")

#: Of ImageNet's training pixels in 0…1, red, green and blue.
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)

IMAGE_SUFFIXES = (".jpeg", ".jpg", ".png", ".ppm", ".bmp")


class ImageFolder(ImageData):
    """Images as ``train/CLASS/*`` and ``test/CLASS/*`` or ``val/CLASS/*``, all scaled to one size.

    Args:
        path: the directory or the zip file, relative to the data root.
        size: height and width, pixels; images of another size are scaled (bicubic).
        classes: names of the class folders in the order of their labels; sorted unless given.
        bgr: blue first, as Caffe's networks expect.
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

    name = "images"

    def __init__(
        self,
        path: str,
        size: int,
        classes: Sequence[str] | None = None,
        bgr: bool = False,
        mean: Sequence[float] = (0.5,),
        std: Sequence[float] = (0.25,),
        batch_size: int = 128,
        eval_batch_size: int = 100,
        validation_split: int | float = 0.1,
        shift: int = 0,
        seed: int = 0,
        data_root: str | None = None,
        flip: bool = False,
    ) -> None:
        super().__init__(batch_size, eval_batch_size, validation_split, shift, seed, data_root, flip)
        self.path = self.root / path
        self.size = size
        self.bgr = bgr
        self.mean, self.std = tuple(mean), tuple(std)
        self.input_shape = (3, size, size)
        self.classes = list(classes) if classes is not None else None
        self.num_classes = len(classes) if classes is not None else 0

    def load(self) -> tuple[Split, Split]:
        """Decode all images.

        Raises:
            DataError: where the folder is missing, holds no images, or one of them is damaged.
        """
        found: dict[str, list[tuple[str, bytes]]] = defaultdict(list)
        for part, label, data in self._files():
            found[part].append((label, data))
        if not found:
            raise DataError(
                f"{self.path}: holds no images as train/CLASS/* and test/CLASS/*; is it the right folder?"
            )
        if self.classes is None:
            self.classes = sorted({label for files in found.values() for label, _ in files})
            self.num_classes = len(self.classes)
        return self._decode(found["train"]), self._decode(found["test"])

    def label(self, folder: str) -> int:
        """The label of a class folder.

        Raises:
            DataError: where it is none of ``classes``.
        """
        assert self.classes is not None  # noqa: S101  (load has set it)
        if folder not in self.classes:
            raise DataError(f"{self.path}: {folder!r} is none of the classes {', '.join(self.classes)}")
        return self.classes.index(folder)

    def _files(self) -> Iterator[tuple[str, str, bytes]]:
        """Part, class folder and bytes of every image, in the order of their names."""
        if self.path.is_dir():
            paths = sorted(p for p in self.path.rglob("*") if p.suffix.lower() in IMAGE_SUFFIXES)
            for path in paths:
                part, label = _place(PurePosixPath(path.relative_to(self.path).as_posix()))
                if part:
                    yield part, label, path.read_bytes()
        elif self.path.is_file():
            yield from self._zipped()
        else:
            raise DataError(
                f"{self.path}: there is no such folder or zip file; put it there, or name another folder "
                f"with --data-root or FEATHERWEIGHT_DATA"
            )

    def _zipped(self) -> Iterator[tuple[str, str, bytes]]:
        try:
            with zipfile.ZipFile(self.path) as archive:
                for name in sorted(archive.namelist()):
                    part, label = _place(PurePosixPath(name))
                    if part and name.lower().endswith(IMAGE_SUFFIXES):
                        yield part, label, archive.read(name)
        except zipfile.BadZipFile as error:
            raise DataError(
                f"{self.path}: is no whole zip file ({error}); delete it and get it again"
            ) from None

    def _decode(self, files: list[tuple[str, bytes]]) -> Split:
        images = torch.empty((len(files), 3, self.size, self.size), dtype=torch.uint8)
        labels = torch.empty(len(files), dtype=torch.int64)
        for i, (folder, data) in enumerate(files):
            pixels = _pixels(data, self.size, f"{self.path}: an image of {folder}")
            images[i] = pixels.flip(0) if self.bgr else pixels
            labels[i] = self.label(folder)
        return Split(images, labels)


class Imagenette(ImageFolder):
    """Imagenette: ten classes of ImageNet, 9,469 images to train on and 3,925 to test, at 128×128.

    Normalised as ImageNet usually is.

    Source: J. Howard, "Imagenette" (https://github.com/fastai/imagenette).

    Args:
        path: the folder or the zip file, relative to the data root.
        size: height and width, pixels; images of another size are scaled.
        batch_size: see :class:`ImageData`, as the arguments below.
        eval_batch_size: images in a validation or test batch.
        validation_split: fraction or number of training images kept for validation.
        shift: pixels by which training images are moved at random, at most.
        seed: of the validation split, the order, the shifts and the flips.
        data_root: the folder of all data sets.
        flip: mirror half of the training images, left to right.
    """

    name = "Imagenette"

    def __init__(
        self,
        path: str = "imagenette/imagenette-128.zip",
        size: int = 128,
        batch_size: int = 64,
        eval_batch_size: int = 100,
        validation_split: int | float = 0.1,
        shift: int = 0,
        seed: int = 0,
        data_root: str | None = None,
        flip: bool = False,
    ) -> None:
        super().__init__(
            path,
            size,
            classes=list(ImagenetteAsImageNet.LABELS),
            mean=IMAGENET_MEAN,
            std=IMAGENET_STD,
            batch_size=batch_size,
            eval_batch_size=eval_batch_size,
            validation_split=validation_split,
            shift=shift,
            seed=seed,
            data_root=data_root,
            flip=flip,
        )


class ImagenetteAsImageNet(ImageFolder):
    """Imagenette's validation images under ImageNet's 1,000 labels, for networks trained on ImageNet.

    Blue first, 227×227, in 0…255 less (104, 117, 123): what Caffe's networks expect. There is nothing
    to train on.

    Source: J. Howard, "Imagenette" (https://github.com/fastai/imagenette).

    Args:
        path: the images, relative to the data root.
        size: height and width, pixels.
        eval_batch_size: images in a test batch.
        data_root: the folder of all data sets.
    """

    name = "Imagenette (ImageNet labels)"

    #: ImageNet's label of each class folder: tench, English springer, cassette player, chain saw,
    #: church, French horn, garbage truck, gas pump, golf ball, parachute.
    LABELS = {  # noqa: RUF012  (never written to)
        "n01440764": 0,
        "n02102040": 217,
        "n02979186": 482,
        "n03000684": 491,
        "n03028079": 497,
        "n03394916": 566,
        "n03417042": 569,
        "n03425413": 571,
        "n03445777": 574,
        "n03888257": 701,
    }

    def __init__(
        self,
        path: str = "imagenette/imagenette-224-val.zip",
        size: int = 227,
        eval_batch_size: int = 50,
        data_root: str | None = None,
    ) -> None:
        super().__init__(
            path,
            size,
            classes=list(self.LABELS),
            bgr=True,
            mean=(104 / 255, 117 / 255, 123 / 255),
            std=(1 / 255,),
            eval_batch_size=eval_batch_size,
            validation_split=0,
            data_root=data_root,
        )
        self.num_classes = 1000

    def label(self, folder: str) -> int:
        """ImageNet's label of a class folder."""
        super().label(folder)
        return self.LABELS[folder]


def _place(path: PurePosixPath) -> tuple[str, str]:
    """Part (``train``, ``test`` or nothing) and class folder of an image."""
    folders = path.parts[:-1]
    if len(folders) < 2:
        return "", ""
    part, label = folders[-2:]
    if part in TRAIN_FOLDERS:
        return "train", label
    return ("test", label) if part in TEST_FOLDERS else ("", "")


def _pixels(data: bytes, size: int, what: str) -> torch.Tensor:
    """Decode one image to uint8 ``(3, size, size)``, red first."""
    # Imported here, as most data sets do without it.
    from PIL import Image, UnidentifiedImageError

    try:
        with Image.open(io.BytesIO(data)) as image:
            rgb = image.convert("RGB")
            if rgb.size != (size, size):
                rgb = rgb.resize((size, size), Image.Resampling.BICUBIC)
            array = np.array(rgb)  # (H, W, 3)
    except (UnidentifiedImageError, OSError) as error:
        raise DataError(f"{what} cannot be decoded: {error}") from None
    return torch.from_numpy(array).permute(2, 0, 1)
