"""Learning from a teacher: what its logits say beside the labels."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch.nn.functional import cross_entropy, kl_div, log_softmax, softmax

from featherweight.errors import RecipeError

if TYPE_CHECKING:
    from featherweight.data.batches import Batches
    from featherweight.training.spec import Distill

#: Bytes that the answers of a teacher that remembers may take.
ANSWERS_BYTES = 1 << 30

#: Images that it is asked about at once.
_AT_ONCE = 1000


class Teacher:
    """A network that is asked and never trained.

    No part of the module that learns from it: neither its parameters nor its checkpoints hold it.

    Args:
        network: maps images to logits; put into evaluation mode.
        spec: how much it counts.

    Attributes:
        network: see above.
        answers: what it says of every view of every image, as :func:`all_answers` gives it, for a teacher
            that is not to be asked again.
    """

    def __init__(self, network: torch.nn.Module, spec: Distill) -> None:
        self.network = network.eval().requires_grad_(False)
        self.answers: torch.Tensor | None = None
        self._spec = spec

    def loss(
        self,
        images: torch.Tensor,
        logits: torch.Tensor,
        labels: torch.Tensor,
        views: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """Mean loss of a batch.

        Args:
            images: ``(B, C, H, W)``.
            logits: the student's, ``(B, classes)``.
            labels: int64 ``(B,)``.
            views: the images' numbers, int64 ``(B,)``, where there are ``answers``.
        """
        if self.answers is not None and views is not None:
            answers = self.answers[views].to(images.device)
        else:
            with torch.no_grad():
                answers = self.network.to(images.device)(images)
        return distillation_loss(logits, answers, labels, self._spec.weight, self._spec.temperature)


@torch.no_grad()
def all_answers(network: torch.nn.Module, batches: Batches) -> torch.Tensor:
    """A teacher's logits for every view of every image, in the order of their numbers.

    Args:
        network: maps images to logits; put into evaluation mode.
        batches: of the training images.

    Returns:
        float32 ``(images · views, classes)``.

    Raises:
        RecipeError: where they would take more than :data:`ANSWERS_BYTES`.
    """
    network.eval()
    numbers = torch.arange(batches.num_images * batches.num_views, device=batches.device)
    one = network(batches.images_of(numbers[:1]))
    size = one.nbytes * len(numbers)
    if size > ANSWERS_BYTES:
        raise RecipeError(
            f"distill: the answers of the teacher for {batches.num_images:,} images in {batches.num_views} "
            f"views each take {size:,} bytes, more than {ANSWERS_BYTES:,}; leave remember out"
        )
    answers: torch.Tensor = one.new_empty((len(numbers), one.shape[1]))
    for part in torch.split(numbers, _AT_ONCE):
        answers[part] = network(batches.images_of(part))
    return answers


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
