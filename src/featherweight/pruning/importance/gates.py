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

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from featherweight.pruning.importance.factors import soft_threshold, train_factors
from featherweight.pruning.importance.protocol import NetworkImportance, above_zero, at_least

if TYPE_CHECKING:
    from collections.abc import Mapping

    from featherweight.pruning.importance.calibration import Calibration

_BETA_1, _BETA_2, _EPSILON = 0.9, 0.999, 1e-8


@dataclass(frozen=True)
class L1Gate(NetworkImportance):
    """abs(c), c trained under the loss plus λ Σ abs(c).

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
        _check(self.penalty, self.lr, self.epochs, self.samples)

    def scores(
        self, weights: Mapping[str, torch.Tensor], granularity: str, calibration: Calibration
    ) -> dict[str, torch.Tensor]:
        """Score the groups of some weights."""
        moments = _Moments()

        def step(name: str, factor: torch.Tensor, gradient: torch.Tensor) -> torch.Tensor:
            mean, scale = moments.update(name, gradient)
            return soft_threshold(factor - self.lr * scale * mean, self.lr * scale * self.penalty)

        batches = calibration.examples(self.samples)
        factors = train_factors(weights, granularity, batches, calibration, self.epochs, step)
        return {name: factor.abs() for name, factor in factors.items()}


@dataclass(frozen=True)
class L2Gate(NetworkImportance):
    """abs(c), c trained under the loss plus λ Σ c².

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
        _check(self.penalty, self.lr, self.epochs, self.samples)

    def scores(
        self, weights: Mapping[str, torch.Tensor], granularity: str, calibration: Calibration
    ) -> dict[str, torch.Tensor]:
        """Score the groups of some weights."""
        moments = _Moments()

        def step(name: str, factor: torch.Tensor, gradient: torch.Tensor) -> torch.Tensor:
            mean, scale = moments.update(name, gradient + 2 * self.penalty * factor)
            return factor - self.lr * scale * mean

        batches = calibration.examples(self.samples)
        factors = train_factors(weights, granularity, batches, calibration, self.epochs, step)
        return {name: factor.abs() for name, factor in factors.items()}


class _Moments:
    """Adam's running means of gradients and their squares, by tensor."""

    def __init__(self) -> None:
        self._held: dict[str, tuple[int, torch.Tensor, torch.Tensor]] = {}

    def update(self, name: str, gradient: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """The corrected mean m̂ after one more gradient, and 1 / (√v̂ + ε)."""
        zeros = torch.zeros_like(gradient)
        t, m, v = self._held.get(name, (0, zeros, zeros))
        t, m = t + 1, _BETA_1 * m + (1 - _BETA_1) * gradient
        v = _BETA_2 * v + (1 - _BETA_2) * gradient.square()
        self._held[name] = t, m, v
        return m / (1 - _BETA_1**t), 1 / ((v / (1 - _BETA_2**t)).sqrt() + _EPSILON)


def _check(penalty: float, lr: float, epochs: int, samples: int) -> None:
    at_least("penalty", penalty, 0)
    above_zero("lr", lr)
    at_least("epochs", epochs, 1)
    at_least("samples", samples, 1)
