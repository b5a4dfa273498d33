"""Magnitude: small weights matter least.

S. Han, J. Pool, J. Tran, W. J. Dally, "Learning both weights and connections for efficient neural networks"
(2015).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from featherweight.pruning.importance.protocol import WeightImportance, mean_over_groups

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class Magnitude(WeightImportance):
    """abs(w); of a group, the mean."""

    def score(self, name: str, weight: torch.Tensor, granularity: str) -> torch.Tensor:
        """Score the groups of one weight."""
        return mean_over_groups(weight.detach().abs(), granularity)


@dataclass(frozen=True)
class Std(WeightImportance):
    """What the threshold of s standard deviations compares: abs(w), prune where abs(w) < s · σ.

    Of a group it is the root mean square, which for a single weight is abs(w) and for a group of normally
    distributed weights is about σ, whatever the group's size.
    """

    def score(self, name: str, weight: torch.Tensor, granularity: str) -> torch.Tensor:
        """Score the groups of one weight."""
        if granularity == "element":
            return weight.detach().abs()
        return mean_over_groups(weight.detach().square(), granularity).sqrt()
