"""Biases and batch-norm statistics of a quantized network, corrected on a few inputs.

Rounded weights move the mean of a unit's output, and that of all units after it. Each layer's bias takes the
shift back (M. Nagel et al., "Data-free quantization through weight equalization and bias correction", 2019,
section 4.2, the empirical variant), and batch normalisation's running mean and variance follow what its
inputs became. Layers are corrected in the order in which they run, each on the outputs of those before it.
"""

from __future__ import annotations

import copy
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch

from featherweight.errors import RecipeError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from torch import nn

#: Layers whose outputs have units in dimension 1 and, of fully connected ones, in the last.
_NORMS = torch.nn.modules.batchnorm._BatchNorm
_LAYERS = (torch.nn.Linear, torch.nn.Conv1d, torch.nn.Conv2d, torch.nn.Conv3d)


@torch.no_grad()
def corrected(
    model: nn.Module, state: Mapping[str, torch.Tensor], data: Iterable[Any], fixed: Iterable[str] = ()
) -> dict[str, torch.Tensor]:
    """Biases and running statistics with which the outputs of quantized layers have the means they had.

    Args:
        model: the float network; neither it nor its mode change.
        state: the quantized network's state dict.
        data: batches of inputs, or of ``(inputs, targets)``; gone through once and held.
        fixed: names of tensors to leave alone.

    Returns:
        By name, the tensors that changed. The running variance is scaled by the ratio of the variances, so
        that a network that was not quantized stays as it is.

    Raises:
        RecipeError: where the data hold no inputs.
    """
    batches = [batch[0] if isinstance(batch, list | tuple) else batch for batch in data]
    batches = [batch for batch in batches if len(batch)]
    if not batches:
        raise RecipeError("the calibration data hold no inputs; give at least one batch")
    before = copy.deepcopy(model).eval()
    after = copy.deepcopy(model).eval()
    after.load_state_dict(dict(state))
    untouched = set(fixed)
    changed: dict[str, torch.Tensor] = {}
    for name in _in_order(before, batches[0]):
        layer: Any = after.get_submodule(name)
        norm = isinstance(layer, _NORMS)
        leaves = ("running_mean", "running_var") if norm else ("bias",)
        names = [f"{name}.{leaf}" for leaf in leaves]
        if untouched & set(names):
            continue
        mean, variance = _moments(before, name, batches, inputs=norm)
        new_mean, new_variance = _moments(after, name, batches, inputs=norm)
        shift = new_mean - mean
        if norm:
            _add(layer.running_mean, shift)
            ratio = torch.where(variance > 0, new_variance / variance.clamp_min(1e-300), 1.0)
            layer.running_var.copy_((layer.running_var.double() * ratio).to(layer.running_var.dtype))
        else:
            _add(layer.bias, -shift)
        changed |= {full: getattr(layer, leaf).detach() for full, leaf in zip(names, leaves, strict=True)}
    return changed


def _add(tensor: torch.Tensor, change: torch.Tensor) -> None:
    tensor.copy_((tensor.double() + change).to(tensor.dtype))


def _in_order(model: nn.Module, inputs: torch.Tensor) -> list[str]:
    """The layers that can be corrected, in the order in which they first run."""
    order: list[str] = []
    handles = []
    for name, layer in model.named_modules():
        tracked = isinstance(layer, _NORMS) and layer.running_mean is not None
        if tracked or (isinstance(layer, _LAYERS) and layer.bias is not None):
            handles.append(layer.register_forward_hook(lambda *_, name=name: order.append(name)))
    try:
        model(inputs)
    finally:
        for handle in handles:
            handle.remove()
    return list(dict.fromkeys(order))


def _moments(
    model: nn.Module, name: str, batches: list[torch.Tensor], *, inputs: bool
) -> tuple[torch.Tensor, torch.Tensor]:
    """Mean and variance of each unit of a layer's outputs, or inputs, ``(units,)`` in float64."""
    units_last = isinstance(model.get_submodule(name), torch.nn.Linear)
    sums: list[torch.Tensor] = []

    def look(tensor: torch.Tensor) -> None:
        units = tensor.shape[-1] if units_last else tensor.shape[1]
        wide = tensor.double() if units_last else tensor.double().movedim(1, -1)
        flat = wide.reshape(-1, units)  # (samples · positions, units)
        part = torch.stack([flat.new_full((units,), float(len(flat))), flat.sum(0), flat.square().sum(0)])
        sums[:] = [sums[0] + part] if sums else [part]

    with _watching(model.get_submodule(name), look, inputs=inputs):
        for batch in batches:
            model(batch)
    count, first, second = sums[0]
    mean = first / count
    return mean, (second / count - mean.square()).clamp_min(0)


@contextmanager
def _watching(layer: nn.Module, look: Any, *, inputs: bool) -> Iterator[None]:
    handle = layer.register_forward_hook(lambda _, args, output: look(args[0] if inputs else output))
    try:
        yield
    finally:
        handle.remove()
