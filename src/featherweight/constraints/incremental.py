"""Weights that take their shared values in groups, while the others train on and make up for it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar

import torch

from featherweight.constraints.latent import Latent

if TYPE_CHECKING:
    from torch.optim import Optimizer


@dataclass(eq=False)
class Incremental(Latent):
    """Incremental network quantization (Zhou et al. 2017): some weights hold shared values, the rest is free.

    Attributes:
        codebook: the shared values, ``(k,)``.
        fixed_zero: whether value 0 of the codebook stands for the pruned weights, and for these alone.
        fixed: bool, in the weight's shape; true where a weight has taken its value, nowhere unless given.
        stage: how many groups have taken theirs.
    """

    quantizes: ClassVar[bool] = False

    codebook: torch.Tensor = field(default_factory=lambda: torch.zeros(0))
    fixed_zero: bool = True
    fixed: torch.Tensor = field(default_factory=lambda: torch.zeros(0, dtype=torch.bool))
    stage: int = 0

    def __post_init__(self) -> None:
        if not self.fixed.numel():
            self.fixed = torch.zeros_like(self.shadow, dtype=torch.bool)

    @property
    def values(self) -> torch.Tensor:
        """The values that a weight may take, ascending."""
        return self.codebook[1 if self.fixed_zero else 0 :].sort().values

    def fix(self, fraction: float) -> None:
        """Let the largest of the free weights take the nearest value, until this fraction of all has one.

        Args:
            fraction: of the weights that are not pruned, 0 to 1.
        """
        free = ~self.fixed if self.keep is None else self.keep & ~self.fixed
        kept = self.fixed.numel() if self.keep is None else int(self.keep.sum())
        count = min(round(fraction * kept) - int(self.fixed.sum()), int(free.sum()))
        self.stage += 1
        if count <= 0:
            return
        scores = self.shadow.abs().masked_fill(~free, -1).reshape(-1)
        chosen = torch.zeros_like(scores, dtype=torch.bool)
        chosen[scores.topk(count, sorted=False).indices] = True
        chosen = chosen.reshape(self.shadow.shape)  # which may be laid out channels last
        values = self.values
        nearest = torch.bucketize(self.shadow[chosen], (values[1:] + values[:-1]) / 2)
        self.shadow[chosen] = values[nearest]
        self.fixed |= chosen

    def constrain_gradient(self, gradient: torch.Tensor) -> None:
        """Weights that have taken their value do not move."""
        gradient.masked_fill_(self.fixed, 0)

    def after_update(self, weight: torch.nn.Parameter, optimizer: Optimizer | None) -> None:
        """Take what the optimizer made of the free weights; momentum and decay leave the others alone."""
        weight.copy_(torch.where(self.fixed, self.shadow, weight))
        super().after_update(weight, optimizer)

    def constrain_weight(self, weight: torch.Tensor) -> None:
        """Set the weight to its shadow: taken values and free ones."""
        weight.copy_(self.shadow)
