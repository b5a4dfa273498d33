"""The two kinds of importance: from a weight alone, and from a network on data.

Both are frozen dataclasses whose fields are the ``options`` of a recipe. The higher a score, the longer its
group is kept.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, ClassVar

import torch

from featherweight.errors import RecipeError, TensorError
from featherweight.pruning.granularity import GRANULARITIES, group_shape, group_size, sum_groups

if TYPE_CHECKING:
    from collections.abc import Mapping

    from featherweight.pruning.importance.calibration import Calibration


class WeightImportance(ABC):
    """Scores a weight by itself; no data are needed, so it works after training and on any state dict."""

    @abstractmethod
    def score(self, name: str, weight: torch.Tensor, granularity: str) -> torch.Tensor:
        """Score the groups of one weight.

        Args:
            name: of the tensor, for errors.
            weight: ``(out, in, ...)``, finite.
            granularity: one of :data:`featherweight.pruning.GRANULARITIES`.

        Returns:
            Scores in the shape of the groups.
        """


class NetworkImportance(ABC):
    """Scores weights by what the network does with them on a sample of data.

    Attributes:
        granularities: those for which it has scores.
        elsewhere: what to do about any other, for the error.
    """

    granularities: ClassVar[tuple[str, ...]] = GRANULARITIES
    elsewhere: ClassVar[str] = ""

    @abstractmethod
    def scores(
        self, weights: Mapping[str, torch.Tensor], granularity: str, calibration: Calibration
    ) -> dict[str, torch.Tensor]:
        """Score the groups of some weights of ``calibration.network``, which stays as it is.

        Args:
            weights: the parameters to score by name, ``(out, in, ...)``.
            granularity: one of ``self.granularities``.
            calibration: the network, batches, the loss, and whom to tell of progress.

        Returns:
            Scores in the shape of the groups, by name.
        """

    def check_granularity(self, name: str, granularity: str) -> None:
        """Refuse a granularity for which the method has no scores.

        Raises:
            RecipeError: naming those that there are.
        """
        if granularity not in self.granularities:
            raise RecipeError(
                f"importance {name} scores groups of granularity {', '.join(self.granularities)}, "
                f"not {granularity}{self.elsewhere}"
            )


def mean_over_groups(scores: torch.Tensor, granularity: str) -> torch.Tensor:
    """The score of a group as the mean of its elements' scores."""
    return sum_groups(scores, granularity) / max(group_size(scores.shape, granularity), 1)


def check_finite(name: str, weight: torch.Tensor) -> None:
    """Refuse weights that are not finite.

    Raises:
        TensorError: naming the tensor.
    """
    if not torch.isfinite(weight).all():
        raise TensorError(
            f"{name}: the weights are not finite; training has diverged, lower its learning rate"
        )


def check_scores(name: str, scores: torch.Tensor, shape: torch.Size, granularity: str) -> torch.Tensor:
    """Refuse scores that cannot be compared.

    Raises:
        TensorError: for scores of a wrong shape or NaN, naming the tensor.
    """
    expected = group_shape(shape, granularity)
    if tuple(scores.shape) != expected:
        raise TensorError(
            f"{name}: importance gave scores of shape {tuple(scores.shape)}, expected {expected}"
        )
    if torch.isnan(scores).any():
        raise TensorError(f"{name}: importance gave NaN scores")
    return scores.detach()


def at_least(what: str, value: float, least: float) -> None:
    """Refuse an option below what makes sense.

    Raises:
        RecipeError: naming the option.
    """
    if not value >= least:
        raise RecipeError(f"{what} must be at least {least:g}, got {value}")


def above_zero(what: str, value: float) -> None:
    """Refuse an option that is not positive.

    Raises:
        RecipeError: naming the option.
    """
    if not value > 0:
        raise RecipeError(f"{what} must be above 0, got {value}")
