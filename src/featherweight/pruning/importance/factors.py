"""Factors on weights, trained while the weights stay as they are: what gates and SSS have in common."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, TypeAlias

import torch

from featherweight.errors import TensorError
from featherweight.pruning.granularity import expand_groups, group_shape
from featherweight.pruning.importance.calibration import Batch, Calibration, gradients, leaves

if TYPE_CHECKING:
    from collections.abc import Mapping

#: ``(name, factor, gradient) -> factor after one step``.
Step: TypeAlias = Callable[[str, torch.Tensor, torch.Tensor], torch.Tensor]


def train_factors(
    weights: Mapping[str, torch.Tensor],
    granularity: str,
    batches: list[Batch],
    calibration: Calibration,
    epochs: int,
    step: Step,
) -> dict[str, torch.Tensor]:
    """Give every group of weights a factor, 1 at first, and train the factors.

    Args:
        weights: parameters of the network.
        granularity: what has a factor of its own.
        batches: gone through in order, ``epochs`` times.
        calibration: the network, its loss, and whom to tell of progress.
        epochs: how often.
        step: the update of one tensor's factors.

    Returns:
        The factors in the shape of the groups, by name.

    Raises:
        TensorError: where they diverge.
    """
    fixed = {name: weight.detach() for name, weight in weights.items()}
    factors = {
        name: torch.ones(group_shape(w.shape, granularity), dtype=w.dtype, device=w.device)
        for name, w in fixed.items()
    }
    for i in range(epochs * len(batches)):
        points = leaves(factors)
        scaled = {
            name: fixed[name] * expand_groups(factor, fixed[name].shape, granularity)
            for name, factor in points.items()
        }
        slopes = gradients(calibration.loss_of(scaled, batches[i % len(batches)]), points)
        factors = {name: step(name, factor, slopes[name]) for name, factor in factors.items()}
        calibration.progress("factors", i + 1, epochs * len(batches))
    for name, factor in factors.items():
        if not torch.isfinite(factor).all():
            raise TensorError(f"{name}: the factors on its weights have diverged; lower lr in the options")
    return factors


def soft_threshold(values: torch.Tensor, by: float | torch.Tensor) -> torch.Tensor:
    """S(z) = sign(z) max(abs(z) − by, 0): the proximal step of an L1 penalty."""
    return values.sign() * (values.abs() - by).clamp(min=0)
