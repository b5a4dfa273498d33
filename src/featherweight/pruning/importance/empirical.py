"""The empirical measure: remove it and see what happens to the loss."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from featherweight.errors import TensorError
from featherweight.pruning.granularity import expand_groups, group_shape, sum_groups
from featherweight.pruning.importance.protocol import NetworkImportance, at_least
from featherweight.pruning.importance.taylor import Taylor2, loss_rises

if TYPE_CHECKING:
    from collections.abc import Mapping

    from featherweight.pruning.importance.calibration import Batch, Calibration

#: Copies of a weight that are tried together take at most so many numbers: 64 MiB of float32.
_MOST_HELD = 1 << 24


@dataclass(frozen=True)
class Empirical(NetworkImportance):
    """Change of the loss when that weight or group alone is set to zero: abs(L without it − L).

    The absolute change, as P. Molchanov et al., "Pruning convolutional neural networks for resource efficient
    inference" (2017), found better than the signed one: a weight without which the loss falls on a few
    examples is one that the network depends on, and many such removals do not add up.

    Of a tensor with more groups than ``limit``, a random sample of ``limit`` is measured; the others get the
    rise that a Taylor expansion of second order foresees, −Σ g w + ½ Σ h w² with h the empirical Fisher
    information, which is on the same scale.

    Attributes:
        samples: examples, at most.
        limit: groups of a tensor that are measured, at most; 0 for all.
        at_once: groups tried together by ``torch.func.vmap``; as many as fit unless given; 1 does without.
        seed: of the sample.
        signed: score the rise itself, so that weights without which the loss falls go first.
    """

    samples: int = 256
    limit: int = 256
    at_once: int | None = None
    seed: int = 0
    signed: bool = False

    def __post_init__(self) -> None:
        at_least("samples", self.samples, 1)
        at_least("limit", self.limit, 0)
        at_least("at_once", 1 if self.at_once is None else self.at_once, 1)

    def scores(
        self, weights: Mapping[str, torch.Tensor], granularity: str, calibration: Calibration
    ) -> dict[str, torch.Tensor]:
        """Score the groups of some weights."""
        batches = calibration.examples(self.samples)
        shapes = {name: torch.Size(group_shape(w.shape, granularity)) for name, w in weights.items()}
        large = [name for name, shape in shapes.items() if self.limit and shape.numel() > self.limit]
        foreseen = self._foresee({name: weights[name] for name in large}, granularity, batches, calibration)
        result = {}
        generator = torch.Generator().manual_seed(self.seed)
        with torch.no_grad():
            for name, weight in weights.items():
                number = shapes[name].numel()
                chosen = torch.arange(number)
                if name in foreseen:
                    chosen = torch.randperm(number, generator=generator)[: self.limit].sort().values
                scores = foreseen.get(name, weight.new_zeros(shapes[name])).reshape(-1).clone()
                chosen = chosen.to(weight.device)
                scores[chosen] = self._measure(
                    name, weight.detach(), chosen, granularity, batches, calibration
                )
                result[name] = (scores if self.signed else scores.abs()).reshape(shapes[name])
        return result

    def _foresee(
        self,
        weights: dict[str, torch.Tensor],
        granularity: str,
        batches: list[Batch],
        calibration: Calibration,
    ) -> dict[str, torch.Tensor]:
        if not weights:
            return {}
        # Single examples do not go through vmap where groups do not.
        second = Taylor2(self.samples, at_once=1 if self.at_once == 1 else None)
        rises = loss_rises(weights, batches, calibration, second)
        return {name: sum_groups(rise, granularity) for name, rise in rises.items()}

    def _measure(
        self,
        name: str,
        weight: torch.Tensor,
        chosen: torch.Tensor,
        granularity: str,
        batches: list[Batch],
        calibration: Calibration,
    ) -> torch.Tensor:
        """The rise of the loss for each of the chosen groups, ``(len(chosen),)``."""
        most = max(1, min(_MOST_HELD // max(weight.numel(), 1), 64))
        number = sum(len(inputs) for inputs, _ in batches)
        losses = weight.new_zeros(len(chosen))
        dense = weight.new_zeros(())
        for i, part in enumerate(torch.split(torch.arange(len(chosen)), self.at_once or most)):
            tried = _without(weight, chosen[part], granularity)
            for batch in batches:
                share = len(batch[0]) / number
                losses[part] += _losses(name, tried, batch, calibration) * share
                if i == 0:
                    dense += calibration.loss_of({name: weight}, batch) * share
            calibration.progress(f"{name} without each", int(part[-1]) + 1, len(chosen))
        return losses - dense


def _without(weight: torch.Tensor, groups: torch.Tensor, granularity: str) -> torch.Tensor:
    """Copies of a weight, each without one group: ``(len(groups), *weight.shape)``."""
    shape = group_shape(weight.shape, granularity)
    keep = torch.ones(len(groups), torch.Size(shape).numel(), dtype=torch.bool, device=weight.device)
    keep[torch.arange(len(groups), device=weight.device), groups] = False
    masks = [expand_groups(mask.reshape(shape), weight.shape, granularity) for mask in keep]
    return weight * torch.stack(masks)


def _losses(name: str, tried: torch.Tensor, batch: Batch, calibration: Calibration) -> torch.Tensor:
    def loss(value: torch.Tensor) -> torch.Tensor:
        return calibration.loss_of({name: value}, batch)

    if len(tried) == 1:
        return loss(tried[0]).reshape(1)
    try:
        found: torch.Tensor = torch.func.vmap(loss)(tried)
    except RuntimeError as error:
        why = " ".join(str(error).split())[:200]
        raise TensorError(
            f"{name}: the network cannot be run with many weights by torch.func.vmap: {why}; "
            f"set options: {{at_once: 1}}, which is slower"
        ) from error
    return found
