"""Batches cut from images in memory, in an order that depends on the seed and the epoch alone.

There are no worker processes: a network as small as LeNet takes less time for a batch than a worker
takes to hand one over.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
from torch import distributed

from featherweight.data.pixels import FLOAT_BUDGET_BYTES, PixelStore
from featherweight.errors import DataError, RecipeError

if TYPE_CHECKING:
    from collections.abc import Container, Iterator, Sequence

    from torch import Tensor

#: Several batches are gathered at once, into about this many bytes: that spares most of the calls, and
#: is still small beside the images.
BLOCK_BYTES = 16 << 20

# Independent streams of random numbers drawn from one seed.
_ORDER_STREAM = 0
_SHIFT_STREAM = 1
_FLIP_STREAM = 2


class Split(NamedTuple):
    """One part of a data set.

    Attributes:
        images: ``(N, C, H, W)``, uint8 in 0…255 or float32 in 0…1.
        labels: ``(N,)``, int64.
    """

    images: Tensor
    labels: Tensor


class EpochSampler:
    """The epoch, in the place where trainers look for it: ``loader.sampler.set_epoch(epoch)``."""

    def __init__(self) -> None:
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch that the next iteration yields, counted from 0."""
        self.epoch = epoch


class Batches:
    """Normalised batches of a split, one epoch an iteration.

    Order, shifts and flips depend on ``seed`` and the epoch alone, so a run that is resumed at the start of
    an epoch sees what it would have seen. Without :meth:`set_epoch`, every iteration repeats the same epoch.

    In a process group of ``torch.distributed`` each rank yields every world-size-th image of the same
    order, in batches of ``batch_size`` each. Shuffled (training) shards are equally long, wrapping around
    to the order's start where the images do not divide evenly. Unshuffled (evaluation) shards hold
    every image exactly once over all ranks, so their lengths may differ by one.

    Args:
        split: the images and their labels, on any device; batches come out on the same.
        batch_size: images in a batch.
        mean: subtracted from pixels in 0…1, per channel or one for all.
        std: what they are then divided by.
        shuffle: a new order in each epoch.
        seed: of order, shifts and flips, 0 or above.
        drop_last: leave out a last batch that is not full.
        shift: move each image by up to this many pixels in each direction, uniformly drawn, filling up
            with zeros (before normalisation).
        flip: mirror each image, left to right, with a probability of one half.
        float_budget: bytes up to which normalised images are kept in memory; see :class:`PixelStore`.

    Attributes:
        plain_epochs: those that yield images as they are, neither shifted nor mirrored.

    Raises:
        DataError: if images and labels do not fit together.
        RecipeError: if a number is out of its range.
    """

    #: Lightning asks every loader that has a sampler for this as well.
    batch_sampler: None = None

    def __init__(
        self,
        split: Split,
        batch_size: int,
        *,
        mean: Sequence[float] = (0.0,),
        std: Sequence[float] = (1.0,),
        shuffle: bool = False,
        seed: int = 0,
        drop_last: bool = False,
        shift: int = 0,
        flip: bool = False,
        float_budget: int = FLOAT_BUDGET_BYTES,
    ) -> None:
        if batch_size < 1 or seed < 0 or shift < 0:
            raise RecipeError(
                "batch_size must be at least 1, seed and shift at least 0; "
                f"got batch_size {batch_size}, seed {seed}, shift {shift}"
            )
        if split.labels.shape != split.images.shape[:1] or split.labels.dtype != torch.int64:
            raise DataError(
                f"{len(split.images)} images need as many int64 labels, (N,); "
                f"got {tuple(split.labels.shape)}, {split.labels.dtype}"
            )
        self.batch_size = batch_size
        self.shuffle = shuffle
        self.seed = seed
        self.drop_last = drop_last
        self.shift = shift
        self.flip = flip
        self.plain_epochs: Container[int] = ()
        self.sampler = EpochSampler()
        # Lightning takes whatever has a sampler for a DataLoader, and asks it for this as well.
        self.batch_sampler = None
        self._labels = split.labels
        self._pixels = PixelStore(split.images, mean, std, margin=shift, float_budget=float_budget)

    @property
    def num_images(self) -> int:
        """Images in the split, over all ranks."""
        return len(self._labels)

    @property
    def device(self) -> torch.device:
        """Where the images are."""
        return self._pixels.device

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch that the next iteration yields, counted from 0."""
        self.sampler.set_epoch(epoch)

    def __len__(self) -> int:
        """Batches in an epoch, on this rank."""
        rank, world_size = _rank_and_world_size()
        images = shard_length(self.num_images, rank, world_size, equal=self.shuffle)
        return images // self.batch_size if self.drop_last else -(-images // self.batch_size)

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield ``(images, labels)``: float32 ``(B, C, H, W)`` and int64 ``(B,)``, free to be written to."""
        # A generator, so the epoch is read when the first batch is asked for: on resuming, Lightning
        # calls iter() first and set_epoch() after.
        epoch = self.sampler.epoch
        order = self._order(epoch)
        corners = self._corners(epoch)
        mirrored = self._mirrored(epoch)
        block_size = self.batch_size * max(1, BLOCK_BYTES // (self._pixels.image_bytes * self.batch_size))
        for start in range(0, len(order), block_size):
            chosen = order[start : start + block_size]
            images = self._pixels.gather(chosen, None if corners is None else corners[chosen])
            if mirrored is not None:
                found = mirrored[chosen].nonzero().view(-1)
                images.index_copy_(0, found, images.index_select(0, found).flip(3))
            labels = self._labels.index_select(0, chosen)
            # unsafe_split: as its parts never overlap, autograd need not treat them as views of one tensor.
            yield from zip(
                images.unsafe_split(self.batch_size), labels.unsafe_split(self.batch_size), strict=True
            )

    @property
    def num_views(self) -> int:
        """In how many ways an image may come, shifted and mirrored."""
        return (2 * self.shift + 1) ** 2 * (2 if self.flip else 1)

    def views(self, epoch: int) -> Tensor:
        """What an epoch yields, in its order: image · :attr:`num_views` + view, int64 ``(N,)``.

        The same number stands for the same pixels, in whatever epoch.
        """
        order = self._order(epoch)
        corners, mirrored = self._corners(epoch), self._mirrored(epoch)
        view = torch.zeros_like(order)
        if corners is not None:
            view = corners[order, 0] * (2 * self.shift + 1) + corners[order, 1]
        if mirrored is not None:
            view = view + mirrored[order] * (2 * self.shift + 1) ** 2
        return order * self.num_views + view

    def images_of(self, views: Tensor) -> Tensor:
        """The images, float32 ``(B, C, H, W)``, that :meth:`views` numbers so, int64 ``(B,)``."""
        chosen, view = views // self.num_views, views % self.num_views
        places = (2 * self.shift + 1) ** 2
        place = view % places
        corners = torch.stack((place // (2 * self.shift + 1), place % (2 * self.shift + 1)), dim=1)
        images = self._pixels.gather(chosen, corners if self.shift else None)
        mirrored = (view >= places).nonzero().view(-1)
        return images.index_copy_(0, mirrored, images.index_select(0, mirrored).flip(3))

    def _order(self, epoch: int) -> Tensor:
        """This rank's images of an epoch, as indices in the order in which they are yielded."""
        if self.shuffle:
            order = torch.randperm(self.num_images, generator=_generator(self.seed, epoch, _ORDER_STREAM))
        else:
            order = torch.arange(self.num_images)
        order = shard(order, *_rank_and_world_size(), equal=self.shuffle)
        if self.drop_last:
            order = order[: len(order) // self.batch_size * self.batch_size]
        return order.to(self._pixels.device)

    def _corners(self, epoch: int) -> Tensor | None:
        """Where each image of the split is cut in this epoch, ``(N, 2)``: the same on every rank."""
        if not self.shift:
            return None
        if epoch in self.plain_epochs:  # cut from the middle: the store has a margin all around
            return torch.full((self.num_images, 2), self.shift, device=self._pixels.device)
        generator = _generator(self.seed, epoch, _SHIFT_STREAM)
        corners = torch.randint(2 * self.shift + 1, (self.num_images, 2), generator=generator)
        return corners.to(self._pixels.device)

    def _mirrored(self, epoch: int) -> Tensor | None:
        """Which images of the split are mirrored in this epoch, bool ``(N,)``: the same on every rank."""
        if not self.flip or epoch in self.plain_epochs:
            return None
        generator = _generator(self.seed, epoch, _FLIP_STREAM)
        return torch.randint(2, (self.num_images,), generator=generator).bool().to(self._pixels.device)


def shard(order: Tensor, rank: int, world_size: int, *, equal: bool) -> Tensor:
    """Every ``world_size``-th entry of ``order``, from ``rank`` on.

    Args:
        order: ``(N,)``, the same on all ranks.
        rank: this process, 0 ≤ rank < world_size.
        world_size: how many processes share the order.
        equal: give all ranks as many entries, the last ones taken from the order's start again.

    Returns:
        ``(shard_length(N, rank, world_size, equal=equal),)``.
    """
    length = shard_length(len(order), rank, world_size, equal=equal)
    positions = rank + world_size * torch.arange(length, device=order.device)
    return order[positions % len(order)] if length else order[:0]


def shard_length(total: int, rank: int, world_size: int, *, equal: bool) -> int:
    """How many of ``total`` entries :func:`shard` gives to a rank."""
    return -(-total // world_size) if equal else len(range(rank, total, world_size))


def _rank_and_world_size() -> tuple[int, int]:
    if distributed.is_available() and distributed.is_initialized():
        return distributed.get_rank(), distributed.get_world_size()
    return 0, 1


def _generator(seed: int, epoch: int, stream: int) -> torch.Generator:
    """A CPU generator for one purpose in one epoch, unrelated to its neighbours'."""
    mixed = np.random.SeedSequence((seed, epoch, stream)).generate_state(1, np.uint64)[0]
    return torch.Generator().manual_seed(int(mixed))
