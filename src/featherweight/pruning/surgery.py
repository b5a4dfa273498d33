"""Dynamic network surgery: what is pruned may come back.

Source: Y. Guo, A. Yao & Y. Chen, "Dynamic network surgery for efficient DNNs" (2016).
"""

from __future__ import annotations

import math
import zlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from featherweight.errors import RecipeError

if TYPE_CHECKING:
    import torch

#: Where a weight is pruned and where it is restored, over the layer's threshold t: the paper's a_k and b_k.
PRUNE_BELOW, RESTORE_ABOVE = 0.9, 1.1


@dataclass(frozen=True)
class SurgeryOptions:
    """How a layer's mask is revised while it trains.

    With probability (1 + gamma · iter)^(−power), while iter < iter_stop, a step prunes where
    abs(w) ≤ 0.9 t, restores where abs(w) > 1.1 t, and leaves the mask as it is in between;
    t = max(mean + c_rate · std, 0) of abs(w), found once a layer. The update reaches all of w.

    Attributes:
        c_rate: standard deviations by which t is above the mean; may be negative.
        gamma: γ, at least 0; 0 revises the mask at every step.
        power: at least 0.
        iter_stop: optimizer steps after which the mask stays.
        seed: of the draws.
    """

    c_rate: float
    iter_stop: int
    gamma: float = 1e-4
    power: float = 1.0
    seed: int = 0

    def __post_init__(self) -> None:
        if not math.isfinite(self.c_rate):
            raise RecipeError(f"c_rate must be a finite number, got {self.c_rate}")
        for name in ("gamma", "power"):
            if not getattr(self, name) >= 0:
                raise RecipeError(f"{name} must be at least 0, got {getattr(self, name)}")
        if self.iter_stop < 1:
            raise RecipeError(f"iter_stop must be at least 1, got {self.iter_stop}")
        if self.seed < 0:
            raise RecipeError(f"seed must be at least 0, got {self.seed}")

    def threshold(self, weight: torch.Tensor) -> float:
        """The threshold t of a layer."""
        if not weight.numel():
            return 0.0
        magnitudes = weight.detach().abs().double()
        return max(float(magnitudes.mean() + self.c_rate * magnitudes.std(correction=0)), 0.0)


def revises(name: str, iteration: int, gamma: float, power: float, iter_stop: int, seed: int) -> bool:
    """Whether step ``iteration``, counted from 0, revises the mask of the layer ``name``.

    The draw depends on nothing but the arguments, so that a resumed training makes the same ones.
    """
    if iteration >= iter_stop:
        return False
    return bool(draw(name, iteration, seed) < (1.0 + gamma * iteration) ** -power)


def draw(name: str, iteration: int, seed: int) -> float:
    """A number in [0, 1) for one layer and step."""
    return float(np.random.default_rng([seed, zlib.crc32(name.encode()), iteration]).random())


def revised_mask(weight: torch.Tensor, mask: torch.Tensor, threshold: float) -> torch.Tensor:
    """The mask (bool, true where kept) that the magnitudes of ``weight`` ask for."""
    magnitudes = weight.detach().abs()
    return (mask & (magnitudes > PRUNE_BELOW * threshold)) | (magnitudes > RESTORE_ABOVE * threshold)
