"""Norms over a kernel or a filter.

H. Li, A. Kadav, I. Durdanovic, H. Samet, H. P. Graf, "Pruning filters for efficient ConvNets" (2017).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from featherweight.pruning.granularity import sum_groups
from featherweight.pruning.importance.protocol import WeightImportance

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class L1Norm(WeightImportance):
    """Σ abs(w) over the group."""

    def score(self, name: str, weight: torch.Tensor, granularity: str) -> torch.Tensor:
        """Score the groups of one weight."""
        return sum_groups(weight.detach().abs(), granularity)


@dataclass(frozen=True)
class L2Norm(WeightImportance):
    """√(Σ w²) over the group."""

    def score(self, name: str, weight: torch.Tensor, granularity: str) -> torch.Tensor:
        """Score the groups of one weight."""
        if granularity == "element":
            return weight.detach().abs()
        return sum_groups(weight.detach().square(), granularity).sqrt()
