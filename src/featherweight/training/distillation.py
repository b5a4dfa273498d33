"""Learning from a teacher: what its logits say beside the labels."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch.nn.functional import cross_entropy, kl_div, log_softmax, softmax

if TYPE_CHECKING:
    from featherweight.training.spec import Distill


class Teacher:
    """A network that is asked and never trained.

    No part of the module that learns from it: neither its parameters nor its checkpoints hold it.

    Args:
        network: maps images to logits; put into evaluation mode.
        spec: how much it counts.
    """

    def __init__(self, network: torch.nn.Module, spec: Distill) -> None:
        self._network = network.eval().requires_grad_(False)
        self._spec = spec

    def loss(self, images: torch.Tensor, logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """Mean loss of a batch.

        Args:
            images: ``(B, C, H, W)``.
            logits: the student's, ``(B, classes)``.
            labels: int64 ``(B,)``.
        """
        with torch.no_grad():
            answers = self._network.to(images.device)(images)
        return distillation_loss(logits, answers, labels, self._spec.weight, self._spec.temperature)


def distillation_loss(
    logits: torch.Tensor, teacher: torch.Tensor, labels: torch.Tensor, weight: float, temperature: float
) -> torch.Tensor:
    """(1 − weight) · cross-entropy + weight · T² · KL(teacher ‖ student), mean over the batch.

    T² keeps the gradients of soft answers as large as those of labels (G. Hinton, O. Vinyals, J. Dean,
    "Distilling the knowledge in a neural network", 2015).

    Args:
        logits: the student's, ``(B, classes)``.
        teacher: the teacher's logits, ``(B, classes)``.
        labels: int64 ``(B,)``.
        weight: of the teacher, 0 to 1.
        temperature: T, by which both logits are divided.
    """
    soft = kl_div(
        log_softmax(logits / temperature, dim=1), softmax(teacher / temperature, dim=1), reduction="batchmean"
    )
    return (1 - weight) * cross_entropy(logits, labels) + weight * temperature**2 * soft
