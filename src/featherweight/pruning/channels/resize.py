"""Shapes of a network pruned by channel, found again from its tensors alone."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import nn

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor

_CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)

#: Attributes that say how many channels a layer makes and reads.
_MADE, _READ = ("out_channels", "out_features"), ("in_channels", "in_features")


def explained_by_pruning(model: nn.Module, state: Mapping[str, Tensor]) -> dict[str, dict[str, int]]:
    """Numbers of channels that layers must have for a state dict to fit, where removed channels explain it.

    They do where every layer that differs is a convolution, linear layer, batch normalisation or PReLU with
    fewer channels and the same kernel, where all of a layer's tensors agree, and where layers that make
    fewer channels go with layers that read fewer.

    Args:
        model: of the original class.
        state: tensors by name, with all the names of the model's.

    Returns:
        New values of attributes (``in_channels``, ``groups``, …) by layer; none where nothing differs or
        the shapes cannot be explained.
    """
    changes: dict[str, dict[str, int]] = {}
    made = read = False
    for name, layer in model.named_modules():
        prefix = f"{name}." if name else ""
        own = {n: t for n, t in (*layer._parameters.items(), *layer._buffers.items()) if t is not None}
        found = {n: tuple(state[prefix + n].shape) for n in own if prefix + n in state}
        if all(shape == tuple(own[n].shape) for n, shape in found.items()):
            continue
        sizes = _sizes(layer, found)
        if sizes is None:
            return {}
        changes[name] = sizes
        made |= any(size < getattr(layer, n) for n, size in sizes.items() if n in _MADE)
        read |= any(size < getattr(layer, n) for n, size in sizes.items() if n in _READ)
    return changes if made and read else {}


def _sizes(layer: nn.Module, found: Mapping[str, tuple[int, ...]]) -> dict[str, int] | None:
    """Numbers of channels of one layer that fit its tensors; None where none do."""
    weight = found.get("weight", ())
    if isinstance(layer, (*_NORMS, nn.PReLU)):
        name = "num_parameters" if isinstance(layer, nn.PReLU) else "num_features"
        # The counter of batches is a scalar.
        vectors = {shape for leaf, shape in found.items() if leaf != "num_batches_tracked"}
        fits = len(vectors) == 1 and [len(shape) for shape in vectors] == [1]
        sizes = [shape[0] for shape in vectors] if fits else []
        return {name: sizes[0]} if fits and 1 <= sizes[0] <= getattr(layer, name) else None
    if not isinstance(layer, (*_CONVOLUTIONS, nn.Linear)) or len(weight) != layer.weight.ndim:
        return None
    if weight[2:] != tuple(layer.weight.shape[2:]) or found.get("bias", weight[:1]) != weight[:1]:
        return None
    if not all(1 <= new <= old for new, old in zip(weight, layer.weight.shape, strict=True)):
        return None
    if isinstance(layer, nn.Linear):
        return {"out_features": weight[0], "in_features": weight[1]}
    groups = layer.groups
    if groups > 1 and groups == layer.in_channels == layer.out_channels:
        groups = weight[0]  # depthwise
    if weight[0] % groups:
        return None
    return {"out_channels": weight[0], "in_channels": weight[1] * groups, "groups": groups}


@torch.no_grad()
def resize(model: nn.Module, changes: Mapping[str, Mapping[str, int]], state: Mapping[str, Tensor]) -> None:
    """Give layers the sizes that :func:`explained_by_pruning` found; their values are left to be loaded.

    Args:
        model: changed in place; parameters of resized layers are new ones.
        changes: attributes by layer.
        state: tensors in the new shapes, by name.
    """
    for name, sizes in changes.items():
        layer = model.get_submodule(name)
        prefix = f"{name}." if name else ""
        for attribute, value in sizes.items():
            setattr(layer, attribute, value)
        for leaf, parameter in layer._parameters.items():
            if parameter is not None:
                empty = parameter.new_empty(state[prefix + leaf].shape)
                layer._parameters[leaf] = nn.Parameter(empty, parameter.requires_grad)
        for leaf, buffer in layer._buffers.items():
            if buffer is not None and prefix + leaf in state:
                layer._buffers[leaf] = buffer.new_empty(state[prefix + leaf].shape)
