"""Weights that take their shared values in groups, while the others train on and make up for it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar

import numpy as np
import torch

from featherweight.constraints.latent import Latent
from featherweight.tensors import QuantizedTensor

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
        values = self.codebook[1 if self.fixed_zero else 0 :].sort().values
        return values if values.numel() else self.codebook.new_zeros(1)

    @property
    def fraction(self) -> float:
        """Of the weights that are not pruned, how many have taken their value."""
        return int(self.fixed.sum()) / max(1, self._kept())

    def _kept(self) -> int:
        return self.fixed.numel() if self.keep is None else int(self.keep.sum())

    def _nearest(self, weights: torch.Tensor) -> torch.Tensor:
        """Which of the values is nearest, int64 in the shape of ``weights``."""
        wide = torch.float32 if weights.device.type == "mps" else torch.float64
        values = self.values.to(wide)
        return torch.bucketize(weights.to(wide), (values[1:] + values[:-1]) / 2)

    def shared(self) -> QuantizedTensor:
        """All weights at their nearest values, the pruned ones at index 0 where that is theirs.

        Returns:
            Indices in the weight's shape and the values, behind a 0 where zero is fixed.
        """
        indices, values = self._nearest(self.shadow), self.values.cpu()
        if self.fixed_zero:
            indices = indices + 1 if self.keep is None else (indices + 1).masked_fill(~self.keep, 0)
            values = torch.cat([values.new_zeros(1), values])
        narrow = values.dtype == torch.bfloat16  # NumPy has no bfloat16
        return QuantizedTensor(
            indices.cpu().numpy().astype(np.uint8 if values.numel() <= 256 else np.uint16),
            (values.float() if narrow else values).numpy(),
            dtype="bfloat16" if narrow else "",
        )

    def fix(self, fraction: float) -> None:
        """Let the largest of the free weights take the nearest value, until this fraction of all has one.

        Args:
            fraction: of the weights that are not pruned, 0 to 1.
        """
        free = ~self.fixed if self.keep is None else self.keep & ~self.fixed
        count = min(round(fraction * self._kept()) - int(self.fixed.sum()), int(free.sum()))
        self.stage += 1
        if count <= 0:
            return
        scores = self.shadow.abs().masked_fill(~free, -1).reshape(-1)
        chosen = torch.zeros_like(scores, dtype=torch.bool)
        chosen[scores.topk(count, sorted=False).indices] = True
        chosen = chosen.reshape(self.shadow.shape)  # which may be laid out channels last
        self.shadow[chosen] = self.values[self._nearest(self.shadow[chosen])].to(self.shadow.dtype)
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

    def sound(self) -> bool:
        """Whether what a checkpoint held fits together: finite values, a number of stages."""
        values = self.codebook.ndim == 1 and self.codebook.numel() and bool(self.codebook.isfinite().all())
        staged = isinstance(self.stage, int) and self.stage >= 0
        return super().sound() and self._is_mask(self.fixed) and bool(values) and staged
