"""The LightningModule around any classifier, and the LightningDataModule around images in memory."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import lightning
import torch
from torch.nn.functional import cross_entropy

from featherweight.files import check_fits

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from featherweight.data import ImageData

Batch = tuple[torch.Tensor, torch.Tensor]


class Classifier(lightning.LightningModule):
    """Trains a network under cross-entropy and reports loss and accuracy.

    Its ``state_dict`` is that of the network itself, so that a checkpoint's weights load into the plain
    model. The optimizer comes from the command line or the run file.

    Logs ``train_loss``, ``val_loss``, ``val_accuracy``, ``test_loss`` and ``test_accuracy`` (fractions).

    Args:
        network: maps images ``(N, C, H, W)`` to logits ``(N, classes)``.
    """

    def __init__(self, network: torch.nn.Module) -> None:
        super().__init__()
        self.network = network
        # Summed on the device and read once an epoch: a log call a step would cost as much as the step.
        self._loss_sum = torch.zeros(())
        self._batches = 0

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Logits ``(N, classes)`` of images ``(N, C, H, W)``."""
        logits: torch.Tensor = self.network(images)
        return logits

    def training_step(self, batch: Batch, index: int) -> torch.Tensor:
        """The training loss of one batch."""
        images, labels = batch
        loss = self.training_loss(images, self.network(images), labels)
        self._loss_sum = self._loss_sum.to(loss.device) + loss.detach()
        self._batches += 1
        return loss

    def training_loss(self, images: torch.Tensor, logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """Cross-entropy; a subclass may put another loss in its place."""
        return cross_entropy(logits, labels)

    @property
    def mean_loss(self) -> float:
        """Mean training loss of the epoch so far; NaN before its first batch."""
        return float(self._loss_sum) / self._batches if self._batches else float("nan")

    def on_train_epoch_start(self) -> None:
        """Begin a new mean."""
        self._loss_sum, self._batches = torch.zeros(()), 0

    def on_train_epoch_end(self) -> None:
        """Log the epoch's mean loss."""
        self.log("train_loss", self.mean_loss, prog_bar=True, sync_dist=True)

    def validation_step(self, batch: Batch, index: int) -> None:
        """Log the loss and accuracy of one batch."""
        self._evaluate(batch, "val")

    def test_step(self, batch: Batch, index: int) -> None:
        """Log the loss and accuracy of one batch."""
        self._evaluate(batch, "test")

    def _evaluate(self, batch: Batch, stage: str) -> None:
        images, labels = batch
        logits = self.network(images)
        values = {
            f"{stage}_loss": cross_entropy(logits, labels),
            f"{stage}_accuracy": (logits.argmax(dim=1) == labels).float().mean(),
        }
        self.log_dict(values, on_epoch=True, batch_size=len(labels), prog_bar=True, sync_dist=True)

    def state_dict(self, *args: Any, **kwargs: Any) -> dict[str, Any]:  # type: ignore[override]
        """The network's own state dict."""
        return self.network.state_dict(*args, **kwargs)

    def load_state_dict(
        self, state_dict: Mapping[str, Any], strict: bool = True, assign: bool = False
    ) -> Any:
        """Load the network's own state dict.

        Raises:
            CheckpointError: where names or shapes do not fit, naming them.
        """
        if strict:
            check_fits(state_dict, self.network, "the checkpoint")
        return self.network.load_state_dict(state_dict, strict=strict, assign=assign)


class ImagesInMemory(lightning.LightningDataModule):
    """Hands the batches of an :class:`~featherweight.data.ImageData` to Lightning.

    Args:
        images: the data set.
    """

    def __init__(self, images: ImageData) -> None:
        super().__init__()
        self.images = images

    def train_dataloader(self) -> Iterable[Batch]:
        """Batches of training images, shuffled."""
        return self.images.train_batches()

    def val_dataloader(self) -> Iterable[Batch]:
        """Batches of the validation split."""
        return self.images.validation_batches()

    def test_dataloader(self) -> Iterable[Batch]:
        """Batches of test images."""
        return self.images.test_batches()


def plain_model(module: lightning.LightningModule) -> torch.nn.Module:
    """The network whose parameter names recipes and callbacks speak of."""
    return module.network if isinstance(module, Classifier) else module
