"""What every data set offers: training, validation and test batches of images in memory."""

from __future__ import annotations

from abc import ABC, abstractmethod
from functools import cached_property
from typing import TYPE_CHECKING, NamedTuple, final

import numpy as np
import torch

from featherweight.data.batches import Batches, Split
from featherweight.data.root import resolve_data_root
from featherweight.errors import RecipeError

if TYPE_CHECKING:
    from pathlib import Path


class Splits(NamedTuple):
    """A data set in three parts that share no image."""

    train: Split
    validation: Split
    test: Split


class ImageData(ABC):
    """A data set of labelled images, loaded when first asked for and kept in memory.

    A subclass says where the images come from, in :meth:`load`, and what they are, in the attributes below.

    Attributes:
        name: shown in results.
        num_classes: how many labels there are.
        input_shape: ``(C, H, W)`` of one image.
        mean: of the training pixels in 0…1, per channel or one for all.
        std: their standard deviation, likewise.
        root: the folder that holds the data sets' folders.

    Args:
        batch_size: images in a training batch.
        eval_batch_size: images in a validation or test batch.
        validation_split: how much of the training set is kept for validation, a fraction (float) or a
            number of images (int), chosen by ``seed``. 0 leaves no validation batches.
        shift: pixels by which training images are moved at random, at most.
        seed: of the validation split, the order, the shifts and the flips; 0 or above, below 2³².
        data_root: see ``root``; None takes ``FEATHERWEIGHT_DATA`` or ``./data``.
        flip: mirror half of the training images, left to right, another half in each epoch.

    Raises:
        RecipeError: if an option is out of its range.
    """

    name: str
    num_classes: int
    input_shape: tuple[int, int, int]
    mean: tuple[float, ...]
    std: tuple[float, ...]

    def __init__(
        self,
        batch_size: int = 128,
        eval_batch_size: int = 1000,
        validation_split: int | float = 0.1,
        shift: int = 0,
        seed: int = 0,
        data_root: str | None = None,
        flip: bool = False,
    ) -> None:
        if batch_size < 1 or eval_batch_size < 1 or shift < 0 or not 0 <= seed < 1 << 32:
            raise RecipeError(
                "batch sizes must be at least 1, shift at least 0, seed at least 0 and below 2³²; "
                f"got batch_size {batch_size}, eval_batch_size {eval_batch_size}, shift {shift}, seed {seed}"
            )
        if validation_split < 0 or (isinstance(validation_split, float) and validation_split >= 1):
            raise RecipeError(
                f"validation_split is a fraction below 1 or a number of images, got {validation_split}"
            )
        self.batch_size = batch_size
        self.eval_batch_size = eval_batch_size
        self.validation_split = validation_split
        self.shift = shift
        self.seed = seed
        self.flip = flip
        self.root: Path = resolve_data_root(data_root)

    @abstractmethod
    def load(self) -> tuple[Split, Split]:
        """Read the training set (validation images included) and the test set.

        Raises:
            DataError: if the data are missing or damaged.
        """

    @final
    @cached_property
    def splits(self) -> Splits:
        """Training, validation and test images, as they were loaded."""
        everything, test = self.load()
        train, validation = hold_out(everything, self.validation_split, self.seed)
        return Splits(train, validation, test)

    @final
    def train_batches(self) -> Batches:
        """Shuffled, shifted and flipped batches of the training images; the same object each time."""
        return self._train_batches

    @final
    def validation_batches(self) -> Batches:
        """Batches of the validation images, in a fixed order; the same object each time."""
        return self._validation_batches

    @final
    def test_batches(self) -> Batches:
        """Batches of the test images, in a fixed order; the same object each time."""
        return self._test_batches

    # Kept, because making one normalises all of its images.
    @cached_property
    def _train_batches(self) -> Batches:
        return Batches(
            self.splits.train,
            self.batch_size,
            mean=self.mean,
            std=self.std,
            shuffle=True,
            seed=self.seed,
            shift=self.shift,
            flip=self.flip,
        )

    @cached_property
    def _validation_batches(self) -> Batches:
        return self._evaluation_batches(self.splits.validation)

    @cached_property
    def _test_batches(self) -> Batches:
        return self._evaluation_batches(self.splits.test)

    def _evaluation_batches(self, split: Split) -> Batches:
        return Batches(split, self.eval_batch_size, mean=self.mean, std=self.std)


def hold_out(split: Split, amount: int | float, seed: int) -> tuple[Split, Split]:
    """Divide a split at random in two that share no image.

    Args:
        split: ``N`` images and labels.
        amount: how much to hold out, a fraction of N (float, rounded to the nearest image) or a number
            of images (int).
        seed: of the choice, 0 or above.

    Returns:
        What is left and what is held out, each in the order of ``split``.

    Raises:
        RecipeError: if nothing would be left.
    """
    total = len(split.labels)
    count = round(amount * total) if isinstance(amount, float) else amount
    if count and count >= total:
        raise RecipeError(f"validation_split {amount} leaves nothing of {total} images to train on")
    # NumPy's RandomState promises the same numbers in every version, so that results stay comparable.
    chosen = np.random.RandomState(seed).permutation(total)[:count]
    held_out = torch.zeros(total, dtype=torch.bool)
    held_out[torch.from_numpy(chosen)] = True
    return _select(split, ~held_out), _select(split, held_out)


def _select(split: Split, mask: torch.Tensor) -> Split:
    return Split(split.images[mask], split.labels[mask])
