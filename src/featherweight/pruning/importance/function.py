"""A function of one's own as an importance."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

import torch

from featherweight.errors import TensorError
from featherweight.pruning.importance.protocol import WeightImportance, mean_over_groups

#: ``(name, weight, gradient or None) -> scores`` in the weight's shape.
ScoreFunction: TypeAlias = Callable[[str, torch.Tensor, torch.Tensor | None], torch.Tensor]


@dataclass(frozen=True)
class FunctionImportance(WeightImportance):
    """Scores from ``function(name, weight, gradient)``; of a group, the mean.

    The gradient is what the parameter's ``grad`` holds: the mean over the calibration batches where there
    are data, whatever a loop of one's own left there, or ``None``.
    """

    function: ScoreFunction

    def score(self, name: str, weight: torch.Tensor, granularity: str) -> torch.Tensor:
        """Score the groups of one weight.

        Raises:
            TensorError: where the function gives anything but scores in the weight's shape.
        """
        scores = self.function(name, weight, weight.grad)
        if not isinstance(scores, torch.Tensor):
            raise TensorError(f"{name}: importance gave {type(scores).__name__}, expected a torch.Tensor")
        if scores.shape != weight.shape:
            raise TensorError(
                f"{name}: importance gave scores of shape {tuple(scores.shape)}, "
                f"expected {tuple(weight.shape)}"
            )
        return mean_over_groups(scores.detach(), granularity)
