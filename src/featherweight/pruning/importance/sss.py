"""Sparse structure selection: scaling factors trained by an accelerated proximal gradient method.

Z. Huang, N. Wang, "Data-driven sparse structure selection for deep neural networks" (2018):

    z  = λ' − η ∇L(λ')
    v' = S_{ηγ}(z) − λ' + μ v
    λ' = S_{ηγ}(z) + μ v'

with S_a(z) = sign(z) max(abs(z) − a, 0), λ' the point at which the gradient is taken, γ the penalty,
η the learning rate and μ the momentum.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from featherweight.pruning.importance.factors import soft_threshold, train_factors
from featherweight.pruning.importance.protocol import NetworkImportance, above_zero, at_least

if TYPE_CHECKING:
    from collections.abc import Mapping

    import torch

    from featherweight.pruning.importance.calibration import Calibration


@dataclass(frozen=True)
class SSS(NetworkImportance):
    """abs(λ), λ a factor on every kernel, filter or channel, trained under the loss plus γ Σ abs(λ).

    The weights stay as they are while the factors are trained. Factors that the penalty takes to 0 stay
    there; an amount of ``threshold: 0`` removes just those.

    Attributes:
        penalty: γ.
        lr: η.
        momentum: μ.
        epochs: times that the examples are gone through.
        samples: examples, at most.
    """

    penalty: float = 1e-2
    lr: float = 0.1
    momentum: float = 0.9
    epochs: int = 5
    samples: int = 4096

    granularities: ClassVar[tuple[str, ...]] = ("kernel", "filter", "channel")
    elsewhere: ClassVar[str] = "; give one of them, or take l1gate, which has a factor for every weight"

    def __post_init__(self) -> None:
        above_zero("lr", self.lr)
        at_least("penalty", self.penalty, 0)
        at_least("momentum", self.momentum, 0)
        at_least("epochs", self.epochs, 1)
        at_least("samples", self.samples, 1)

    def scores(
        self, weights: Mapping[str, torch.Tensor], granularity: str, calibration: Calibration
    ) -> dict[str, torch.Tensor]:
        """Score the groups of some weights."""
        batches = calibration.examples(self.samples)
        speed: dict[str, torch.Tensor] = {}

        def step(name: str, factor: torch.Tensor, gradient: torch.Tensor) -> torch.Tensor:
            before = speed.get(name, factor.new_zeros(factor.shape))
            shrunk = soft_threshold(factor - self.lr * gradient, self.lr * self.penalty)
            speed[name] = shrunk - factor + self.momentum * before
            return shrunk + self.momentum * speed[name]

        factors = train_factors(weights, granularity, batches, calibration, self.epochs, step)
        return {name: factor.abs() for name, factor in factors.items()}
