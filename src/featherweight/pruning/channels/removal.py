"""Channels leave the layers for good: smaller parameters, smaller numbers of channels."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from featherweight.pruning.channels.groups import EACH, IN
from featherweight.pruning.channels.samples import parts_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from featherweight.pruning.channels.groups import ChannelGroup


def remove(group: ChannelGroup, channels: Sequence[int]) -> None:
    """Take channels out of every layer of a group.

    Parameters are replaced, so an optimizer has to be made anew; gradients are dropped.

    Args:
        group: the channels' layers.
        channels: which, of the group's own numbers.
    """
    for member in group.members:
        positions = member.at(channels)
        if member.kind == IN:
            _remove_inputs(member.layer, positions)
        else:
            _remove_outputs(member.layer, positions)
            if member.kind == EACH and hasattr(member.layer, "groups"):  # depthwise
                member.layer.in_channels = member.layer.groups = member.layer.out_channels


@torch.no_grad()
def silence(group: ChannelGroup, channels: Sequence[int]) -> None:
    """Let nothing of some channels reach the layers that read them: their weights become zero.

    The network that is left when the channels are removed computes just this.
    """
    for member in group.successors:
        weight = member.layer.weight
        assert isinstance(weight, Tensor)  # noqa: S101
        groups = parts_of(member.layer)
        size, outputs = weight.shape[1], len(weight) // groups
        for position in member.at(channels):
            part = position // size
            weight[part * outputs : (part + 1) * outputs, position % size] = 0


@contextmanager
def undone_on_error(group: ChannelGroup) -> Iterator[None]:
    """Give the layers of a group back as they were where something goes wrong."""
    saved = [(member.layer, _state(member.layer)) for member in group.members]
    for layer, _ in saved:  # what changes in place is a copy
        for name, parameter in layer._parameters.items():
            if parameter is not None:
                layer._parameters[name] = nn.Parameter(parameter.detach().clone(), parameter.requires_grad)
    try:
        yield
    except BaseException:
        for layer, (parameters, buffers, numbers) in saved:
            layer._parameters.update(parameters)
            layer._buffers.update(buffers)
            layer.__dict__.update(numbers)
        raise


def _state(layer: nn.Module) -> tuple[dict[str, Any], dict[str, Any], dict[str, int]]:
    numbers = {name: value for name, value in vars(layer).items() if isinstance(value, int)}
    return dict(layer._parameters), dict(layer._buffers), numbers


def _remove_outputs(layer: nn.Module, positions: Sequence[int]) -> None:
    """Remove filters, or channels of a layer that treats each by itself."""
    total = _channels(layer)
    kept = _all_but(positions, total)
    for name, parameter in layer._parameters.items():
        if parameter is not None:
            layer._parameters[name] = nn.Parameter(_select(parameter, 0, kept), parameter.requires_grad)
    for name, buffer in layer._buffers.items():
        if buffer is not None and buffer.ndim:  # the counter of batches stays
            layer._buffers[name] = _select(buffer, 0, kept)
    for name in ("out_channels", "out_features", "num_features", "num_parameters"):
        if hasattr(layer, name):
            setattr(layer, name, len(kept))


def _remove_inputs(layer: nn.Module, positions: Sequence[int]) -> None:
    """Remove what a convolution or linear layer reads; of a grouped one as much from each part."""
    weight = layer.weight
    assert isinstance(weight, Tensor)  # noqa: S101
    groups = parts_of(layer)
    size = weight.shape[1]
    gone = set(positions)
    parts = []
    for part, filters in enumerate(weight.chunk(groups)):
        mine = [position - part * size for position in gone if position // size == part]
        parts.append(_select(filters, 1, _all_but(mine, size)))
    layer.weight = nn.Parameter(torch.cat(parts), weight.requires_grad)
    name = "in_features" if isinstance(layer, nn.Linear) else "in_channels"
    setattr(layer, name, layer.weight.shape[1] * groups)


def _channels(layer: nn.Module) -> int:
    for name in ("out_channels", "out_features", "num_features", "num_parameters"):
        if hasattr(layer, name):
            return int(getattr(layer, name))
    raise TypeError(f"a {type(layer).__name__} has no channels")


def _all_but(positions: Sequence[int], total: int) -> Tensor:
    keep = np.ones(total, dtype=bool)
    keep[list(positions)] = False
    return torch.from_numpy(np.flatnonzero(keep))


def _select(tensor: Tensor, dim: int, kept: Tensor) -> Tensor:
    return tensor.detach().index_select(dim, kept.to(tensor.device))
