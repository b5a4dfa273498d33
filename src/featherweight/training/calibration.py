"""Training batches for an importance that needs data, taken without disturbing the training."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

import torch
from torch.utils.data import DataLoader, IterableDataset

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    import lightning

    from featherweight.data import ImageData
    from featherweight.pruning import Batch


def calibration_batches(trainer: lightning.Trainer, seed: int) -> Iterable[Batch]:
    """Batches of the trainer's training data, lazily; the same whenever they are asked for in an epoch.

    Of batches that can be gone through twice at a time (:class:`featherweight.data.batches.Batches`), those
    of the present epoch. A ``DataLoader`` may be at work in other processes, so a new one takes its place,
    with an order drawn by ``seed``.
    """
    loader: Any = trainer.train_dataloader
    if isinstance(loader, DataLoader):
        loader = _another(loader, seed)
    plugin = trainer.strategy.precision_plugin
    return ((plugin.convert_input(inputs), targets) for inputs, targets in loader)


def _another(loader: DataLoader[Any], seed: int) -> DataLoader[Any]:
    streamed = isinstance(loader.dataset, IterableDataset)
    return DataLoader(
        loader.dataset,
        batch_size=loader.batch_size or getattr(loader.batch_sampler, "batch_size", 1),
        shuffle=None if streamed else True,
        collate_fn=loader.collate_fn,
        generator=torch.Generator().manual_seed(seed),
    )


def first_batches(images: ImageData, count: int) -> list[Batch]:
    """The first training images of a data set in its order of epoch 0, fewer where it has no more.

    Args:
        images: the data set.
        count: how many images, at least 1.
    """
    batches = images.train_batches()
    batches.set_epoch(0)
    chosen: list[Batch] = []
    for inputs, labels in batches:
        chosen.append((inputs[:count], labels[:count]))
        count -= len(labels)
        if count <= 0:
            break
    return chosen


@contextlib.contextmanager
def undisturbed(seed: int) -> Iterator[None]:
    """PyTorch's random numbers within come from ``seed``; those of the training go on as if nothing was."""
    devices = [torch.cuda.current_device()] if torch.cuda.is_available() else []
    with torch.random.fork_rng(devices):
        torch.manual_seed(seed)
        yield
