"""The diagonal of the Hessian, without the Hessian.

Sources: the empirical Fisher information, F. Kunstner, L. Balles, P. Hennig (2019), as what it is and is not;
M. F. Hutchinson, "A stochastic estimator of the trace of the influence matrix" (1989), for the diagonal
C. Bekas, E. Kokiopoulou, Y. Saad (2007).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from featherweight.errors import TensorError
from featherweight.pruning.importance.calibration import Batch, Calibration, gradients, leaves

if TYPE_CHECKING:
    from collections.abc import Mapping

#: Gradients of single examples that are held together take at most so many numbers: 256 MiB of float32.
_MOST_HELD = 1 << 26


def empirical_fisher(
    weights: Mapping[str, torch.Tensor], batches: list[Batch], calibration: Calibration, at_once: int | None
) -> dict[str, torch.Tensor]:
    """The mean over examples of the squared gradient of an example's loss, by name.

    Args:
        weights: parameters of the network.
        batches: examples.
        calibration: the network and its loss.
        at_once: examples whose gradients are computed together by ``torch.func.vmap``; as many as fit into
            256 MiB unless given; 1 does without ``vmap``.

    Raises:
        TensorError: where the network cannot be vectorized.
    """
    held = max(sum(weight.numel() for weight in weights.values()), 1)
    at_once = at_once or max(1, min(_MOST_HELD // held, 256))
    points = {name: weight.detach() for name, weight in weights.items()}
    totals = {name: torch.zeros_like(weight) for name, weight in points.items()}
    number = sum(len(inputs) for inputs, _ in batches)
    done = 0
    for inputs, targets in batches:
        for start in range(0, len(inputs), at_once):
            part = inputs[start : start + at_once], targets[start : start + at_once]
            for name, squares in _squares(points, part, calibration).items():
                totals[name] += squares
            done += len(part[0])
            calibration.progress("Fisher information", done, number)
    return {name: total / number for name, total in totals.items()}


def _squares(
    points: dict[str, torch.Tensor], part: Batch, calibration: Calibration
) -> dict[str, torch.Tensor]:
    """The sum over a few examples of the squared gradient."""
    if len(part[0]) == 1:
        here = leaves(points)
        found = gradients(calibration.loss_of(here, part), here)
        return {name: gradient.square() for name, gradient in found.items()}

    def loss(values: dict[str, torch.Tensor], one: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        return calibration.loss_of(values, (one.unsqueeze(0), target.unsqueeze(0)))

    try:
        each = torch.func.vmap(torch.func.grad(loss), in_dims=(None, 0, 0))(points, *part)
    except RuntimeError as error:
        raise TensorError(
            f"the network cannot be run on many examples by torch.func.vmap: {_first_line(error)}; "
            f"set options: {{at_once: 1}}, which is slower, or hessian: hutchinson"
        ) from error
    return {name: gradient.square().sum(0) for name, gradient in each.items()}


def hutchinson(
    weights: Mapping[str, torch.Tensor],
    batches: list[Batch],
    calibration: Calibration,
    probes: int,
    seed: int,
) -> dict[str, torch.Tensor]:
    """An unbiased estimate of the diagonal of the Hessian of the mean loss: the mean of v ∘ (H v).

    Args:
        weights: parameters of the network.
        batches: examples.
        calibration: the network and its loss.
        probes: vectors v of random signs for each batch.
        seed: draws them, the same on every device.
    """
    generator = torch.Generator().manual_seed(seed)
    diagonal = {name: torch.zeros_like(weight) for name, weight in weights.items()}
    number = sum(len(inputs) for inputs, _ in batches)
    for i, batch in enumerate(batches):
        points = leaves(weights)
        first = gradients(calibration.loss_of(points, batch), points, create_graph=True)
        for _ in range(probes):
            signs = {
                name: _signs(weight.shape, generator).to(weight.device, weight.dtype)
                for name, weight in weights.items()
            }
            slope = sum((first[name] * signs[name]).sum() for name in signs)
            if not isinstance(slope, torch.Tensor) or not slope.requires_grad:
                continue  # the loss is linear in the weights: H is 0
            second = torch.autograd.grad(
                slope, list(points.values()), retain_graph=True, allow_unused=True, materialize_grads=True
            )
            for name, product in zip(points, second, strict=True):
                diagonal[name] += signs[name] * product * (len(batch[0]) / (number * probes))
        calibration.progress("Hessian's diagonal", i + 1, len(batches))
    return diagonal


def _signs(shape: torch.Size, generator: torch.Generator) -> torch.Tensor:
    return torch.randint(0, 2, shape, generator=generator) * 2 - 1


def _first_line(error: BaseException) -> str:
    return " ".join(str(error).split())[:200]
