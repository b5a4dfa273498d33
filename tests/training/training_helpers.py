"""A small network, small data and a trainer without ornaments, for tests of training."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any

import lightning
import torch
from torch import Tensor, nn

from featherweight.data import Digits
from featherweight.training.module import Classifier, ImagesInMemory

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

#: What Lightning 2.6 warns of here that says nothing about the code under test.
LIGHTNING_WARNINGS = (
    "ignore:.*does not have many workers",  # the batches are in memory
    "ignore:.*LeafSpec.*is deprecated",  # Lightning's own call of PyTorch
    "ignore:The number of training batches",  # fewer than a logging interval
    "ignore:.*Checkpoint directory .* exists and is not empty",
    "ignore:You're resuming from a checkpoint that ended before the epoch ended",
    "ignore:Be aware that when using `ckpt_path`",  # the checkpoint keeper need not be there again
    "ignore:.*torch.jit.*is deprecated",
)

#: Weights of ``Small``: 784·16 + 16·10.
FC1, FC2 = 12544, 160


class Small(nn.Module):
    """Two linear layers, 784-16-10."""

    def __init__(self, dropout: float = 0.0) -> None:
        super().__init__()
        self.fc1 = nn.Linear(784, 16)
        self.fc2 = nn.Linear(16, 10)
        self.dropout = nn.Dropout(dropout)

    def forward(self, images: Tensor) -> Tensor:
        return self.fc2(self.dropout(self.fc1(images.flatten(1)).relu()))


class SmallConvolution(nn.Module):
    """A convolution of 6 filters and a linear layer."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 6, 5, stride=4)  # (B, 6, 6, 6)
        self.fc = nn.Linear(216, 10)

    def forward(self, images: Tensor) -> Tensor:
        return self.fc(self.conv(images).relu().flatten(1))


class Trained(Classifier):
    """A classifier with an optimizer of its own."""

    def __init__(self, network: nn.Module, optimizer: Callable[..., Any] | None = None) -> None:
        super().__init__(network)
        self.make = optimizer or (lambda p: torch.optim.SGD(p, lr=0.05, momentum=0.9))

    def configure_optimizers(self) -> Any:
        return self.make(self.parameters())


@cache
def digits(batch_size: int = 128) -> Digits:
    return Digits(batch_size=batch_size)


def network(kind: type[nn.Module] = Small, seed: int = 0) -> Any:
    torch.manual_seed(seed)
    return kind()


def train(
    module: nn.Module,
    callbacks: list[lightning.Callback],
    root: Path,
    *,
    epochs: int = 4,
    steps: int = 3,
    batch_size: int = 128,
    optimizer: Callable[..., Any] | None = None,
    resume: str | Path | None = None,
    **options: Any,
) -> lightning.Trainer:
    """Train ``module`` under a plain trainer, a few steps an epoch."""
    saves = any(isinstance(c, lightning.pytorch.callbacks.Checkpoint) for c in callbacks)
    defaults: dict[str, Any] = {
        "logger": False,
        "enable_checkpointing": saves,
        "enable_progress_bar": False,
        "enable_model_summary": False,
        "num_sanity_val_steps": 0,
        "accelerator": "cpu",
        "use_distributed_sampler": False,
        "limit_train_batches": steps,
        "limit_val_batches": 1,
    }
    trainer = lightning.Trainer(
        max_epochs=epochs, callbacks=callbacks, default_root_dir=root, **{**defaults, **options}
    )
    trainer.fit(
        Trained(module, optimizer), ImagesInMemory(digits(batch_size)), ckpt_path=resume, weights_only=True
    )
    return trainer


class Watch(lightning.Callback):
    """Note something at the start of every epoch (after the callbacks before it) and after every batch."""

    def __init__(
        self, at_start: Callable[[Any], Any] | None = None, after_batch: Callable[[Any], Any] | None = None
    ) -> None:
        self.at_start, self.after_batch = at_start, after_batch
        self.starts: list[Any] = []
        self.batches: list[Any] = []

    def on_train_epoch_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        if self.at_start is not None:
            self.starts.append(self.at_start(pl_module.network))

    def on_train_batch_end(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, *args: Any
    ) -> None:
        if self.after_batch is not None:
            self.batches.append(self.after_batch(pl_module.network))


def zeros(weight: Tensor) -> int:
    return int((weight == 0).sum())


def zero_fraction(model: nn.Module) -> float:
    """Of all weights of two or more dimensions."""
    weights = [p for p in model.parameters() if p.ndim > 1]
    return sum(map(zeros, weights)) / sum(p.numel() for p in weights)


def snapshot(model: nn.Module) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}


def same_bits(first: dict[str, Tensor], second: dict[str, Tensor]) -> bool:
    return set(first) == set(second) and all(
        torch.equal(first[name].view(torch.int32), second[name].view(torch.int32)) for name in first
    )
