"""Gates: every weight, or group, gets a factor, and the penalised loss says which factors are needed.

The factors c are 1 at first and are trained, the weights as they are, under the loss plus λ Σ abs(c)
(``l1gate``) or λ Σ c² (``l2gate``). An L1 penalty takes proximal steps, or no factor would ever reach zero.
With few examples a weight's gradient is tiny, and the same step for all would shrink all alike; so each
factor's step is scaled as in Adam:

    m = β₁ m + (1 − β₁) g        v = β₂ v + (1 − β₂) g²        s = η / (√v̂ + ε)
    l1gate: c = S_{s λ}(c − s m̂)           g = ∂L/∂c
    l2gate: c = c − s m̂                    g = ∂L/∂c + 2 λ c

with m̂ = m / (1 − β₁ᵗ), v̂ = v / (1 − β₂ᵗ) and S the soft threshold.

Sources: M. C. Mozer, P. Smolensky, "Skeletonization" (1989), for factors on what may go; D. Kingma,
J. Ba, "Adam" (2015); J. Yun, A. Lozano, E. Yang, "Adaptive proximal gradient methods for structured neural
networks" (2021), for its proximal steps.
"""

from __future__ import annotations

from abc import abstractmethod
from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING

from featherweight.pruning.importance.factors import soft_threshold, train_factors
from featherweight.pruning.importance.protocol import NetworkImportance, above_zero, at_least

if TYPE_CHECKING:
    from collections.abc import Mapping

    import torch

    from featherweight.pruning.importance.calibration import Calibration

_BETA_1, _BETA_2, _EPSILON = 0.9, 0.999, 1e-8


@dataclass(frozen=True)
class _Gate(NetworkImportance):
    """abs(c) of factors that ``step`` has trained.

    Attributes:
        penalty: λ.
        lr: η, the most that a factor moves in a step.
        epochs: times that the examples are gone through.
        samples: examples, at most.
    """

    penalty: float = 3e-5
    lr: float = 0.03
    epochs: int = 3
    samples: int = 4096

    def __post_init__(self) -> None:
        at_least("penalty", self.penalty, 0)
        above_zero("lr", self.lr)
        at_least("epochs", self.epochs, 1)
        at_least("samples", self.samples, 1)

    def scores(
        self, weights: Mapping[str, torch.Tensor], granularity: str, calibration: Calibration
    ) -> dict[str, torch.Tensor]:
        """Score the groups of some weights."""
        moments: dict[str, _Moments] = defaultdict(_Moments)

        def step(name: str, factor: torch.Tensor, gradient: torch.Tensor) -> torch.Tensor:
            return self.step(factor, gradient, moments[name])

        batches = calibration.examples(self.samples)
        factors = train_factors(weights, granularity, batches, calibration, self.epochs, step)
        return {name: factor.abs() for name, factor in factors.items()}

    @abstractmethod
    def step(self, factor: torch.Tensor, gradient: torch.Tensor, moments: _Moments) -> torch.Tensor:
        """The factors of a tensor after one more step."""


@dataclass(frozen=True)
class L1Gate(_Gate):
    """abs(c), c trained under the loss plus λ Σ abs(c)."""

    def step(self, factor: torch.Tensor, gradient: torch.Tensor, moments: _Moments) -> torch.Tensor:
        """A proximal step."""
        mean, scale = moments.update(gradient)
        return soft_threshold(factor - self.lr * scale * mean, self.lr * scale * self.penalty)


@dataclass(frozen=True)
class L2Gate(_Gate):
    """abs(c), c trained under the loss plus λ Σ c²."""

    def step(self, factor: torch.Tensor, gradient: torch.Tensor, moments: _Moments) -> torch.Tensor:
        """A step along the gradient of loss and penalty."""
        mean, scale = moments.update(gradient + 2 * self.penalty * factor)
        return factor - self.lr * scale * mean


class _Moments:
    """Adam's running means of the gradients of a tensor and of their squares."""

    def __init__(self) -> None:
        self._steps = 0
        self._mean: torch.Tensor | float = 0.0
        self._square: torch.Tensor | float = 0.0

    def update(self, gradient: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """The corrected mean m̂ after one more gradient, and 1 / (√v̂ + ε)."""
        self._steps += 1
        mean = self._mean = _BETA_1 * self._mean + (1 - _BETA_1) * gradient
        square = self._square = _BETA_2 * self._square + (1 - _BETA_2) * gradient.square()
        corrected = square / (1 - _BETA_2**self._steps)
        return mean / (1 - _BETA_1**self._steps), 1 / (corrected.sqrt() + _EPSILON)
