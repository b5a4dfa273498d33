"""Error and loss of a network over batches."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch.nn.functional import cross_entropy

from featherweight.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Iterable


@dataclass(frozen=True)
class Evaluation:
    """How a network does on labelled images.

    Attributes:
        error_percent: top-1 error.
        loss: mean cross-entropy, nats an image.
        examples: images tested.
    """

    error_percent: float
    loss: float
    examples: int


@torch.no_grad()
def evaluate(
    network: torch.nn.Module,
    batches: Iterable[tuple[torch.Tensor, torch.Tensor]],
    device: str | torch.device = "cpu",
) -> Evaluation:
    """Test a network, in evaluation mode; its mode is restored.

    Args:
        network: maps images ``(N, C, H, W)`` to logits ``(N, classes)``.
        batches: images and labels.
        device: where to compute; the network is moved there.

    Raises:
        DataError: where there are no images.
    """
    training = network.training
    network.to(device).eval()
    wrong, loss, examples = 0, 0.0, 0
    for images, labels in batches:
        logits, labels = network(images.to(device)), labels.to(device)
        wrong += int((logits.argmax(dim=1) != labels).sum())
        loss += float(cross_entropy(logits, labels, reduction="sum"))
        examples += len(labels)
    network.train(training)
    if not examples:
        raise DataError("there are no images to test on")
    return Evaluation(100.0 * wrong / examples, loss / examples, examples)
