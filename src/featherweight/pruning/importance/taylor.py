"""Taylor expansions of the loss: what removing a weight costs to first and second order.

Removing w changes the loss by about −g w + ½ h w². At a minimum g = 0, which leaves Optimal Brain Damage.

Sources: P. Molchanov, S. Tyree, T. Karras, T. Aila, J. Kautz, "Pruning convolutional neural networks for
resource efficient inference" (2017); Y. LeCun, J. Denker, S. Solla, "Optimal brain damage" (1990).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from featherweight.pruning.importance.calibration import Batch, Calibration, mean_gradients
from featherweight.pruning.importance.hessian import empirical_fisher, hutchinson
from featherweight.pruning.importance.protocol import NetworkImportance, at_least, mean_over_groups
from featherweight.strict import one_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    import torch

HESSIANS = ("fisher", "hutchinson")


@dataclass(frozen=True)
class Taylor1(NetworkImportance):
    """abs(g · w), g averaged over the calibration examples; of a group, the mean.

    Attributes:
        samples: examples, at most.
    """

    samples: int = 1024

    def __post_init__(self) -> None:
        at_least("samples", self.samples, 1)

    def scores(
        self, weights: Mapping[str, torch.Tensor], granularity: str, calibration: Calibration
    ) -> dict[str, torch.Tensor]:
        """Score the groups of some weights."""
        batches = calibration.examples(self.samples)
        slopes = mean_gradients(weights, batches, calibration, "gradients")
        return {
            name: mean_over_groups((slopes[name] * weight.detach()).abs(), granularity)
            for name, weight in weights.items()
        }


@dataclass(frozen=True)
class Taylor2(NetworkImportance):
    """½ h w², h the diagonal of the Hessian; of a group, the mean.

    Attributes:
        samples: examples, at most.
        hessian: where h comes from: ``fisher``, the mean of squared gradients of single examples (never
            negative), or ``hutchinson``, an unbiased estimate of the Hessian's own diagonal.
        probes: random vectors a batch for ``hutchinson``.
        at_once: examples whose gradients ``fisher`` computes together; as many as fit unless given.
        seed: of the random vectors.
    """

    samples: int = 512
    hessian: str = "fisher"
    probes: int = 16
    at_once: int | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        one_of("hessian", self.hessian, HESSIANS)
        at_least("samples", self.samples, 1)
        at_least("probes", self.probes, 1)
        at_least("at_once", 1 if self.at_once is None else self.at_once, 1)

    def diagonal(
        self, weights: Mapping[str, torch.Tensor], batches: list[Batch], calibration: Calibration
    ) -> dict[str, torch.Tensor]:
        """The Hessian's diagonal h by name, in the weights' shapes."""
        if self.hessian == "fisher":
            return empirical_fisher(weights, batches, calibration, self.at_once)
        return hutchinson(weights, batches, calibration, self.probes, self.seed)

    def scores(
        self, weights: Mapping[str, torch.Tensor], granularity: str, calibration: Calibration
    ) -> dict[str, torch.Tensor]:
        """Score the groups of some weights."""
        h = self.diagonal(weights, calibration.examples(self.samples), calibration)
        return {
            name: mean_over_groups(0.5 * h[name] * weight.detach().square(), granularity)
            for name, weight in weights.items()
        }


@dataclass(frozen=True)
class Taylor12(NetworkImportance):
    """abs(−g w + ½ h w²); of a group, the mean.

    Attributes:
        samples: examples, at most.
        hessian: as for :class:`Taylor2`.
        probes: as for :class:`Taylor2`.
        at_once: as for :class:`Taylor2`.
        seed: as for :class:`Taylor2`.
    """

    samples: int = 512
    hessian: str = "fisher"
    probes: int = 16
    at_once: int | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        self._second_order()

    def _second_order(self) -> Taylor2:
        return Taylor2(self.samples, self.hessian, self.probes, self.at_once, self.seed)

    def scores(
        self, weights: Mapping[str, torch.Tensor], granularity: str, calibration: Calibration
    ) -> dict[str, torch.Tensor]:
        """Score the groups of some weights."""
        batches = calibration.examples(self.samples)
        rises = loss_rises(weights, batches, calibration, self._second_order())
        return {name: mean_over_groups(rise.abs(), granularity) for name, rise in rises.items()}


def loss_rises(
    weights: Mapping[str, torch.Tensor], batches: list[Batch], calibration: Calibration, second: Taylor2
) -> dict[str, torch.Tensor]:
    """−g w + ½ h w² by name: by how much the loss rises where a weight is removed, to second order."""
    slopes = mean_gradients(weights, batches, calibration, "gradients")
    h = second.diagonal(weights, batches, calibration)
    return {
        name: -slopes[name] * weight.detach() + 0.5 * h[name] * weight.detach().square()
        for name, weight in weights.items()
    }
