"""What is pruned at a time: single weights, 2-D kernels, 3-D filters or input channels.

A weight has the layout of ``torch.nn.Linear`` and ``torch.nn.Conv1d`` … ``Conv3d``: ``(out, in, ...)``.

===========  ===========================================  ======================  ==============
granularity  a group is                                   convolution             linear layer
===========  ===========================================  ======================  ==============
element      one weight                                   (out, in, kH, kW)       (out, in)
kernel       the weights between an input and an output   (out, in)               (out, in)
filter       the weights of an output unit                (out,)                  (out,), rows
channel      the weights of an input                      (in,)                   (in,), columns
===========  ===========================================  ======================  ==============

Scores and masks of groups have the shapes above. In a tensor of fewer than two dimensions, such as a bias,
every element is a group of its own. In a grouped convolution an "input" is the input of each of its groups.

Source: H. Mao et al., "Exploring the granularity of sparsity in convolutional neural networks" (2017).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

GRANULARITIES = ("element", "kernel", "filter", "channel")


def group_shape(shape: torch.Size | tuple[int, ...], granularity: str) -> tuple[int, ...]:
    """The shape in which the groups of a weight of ``shape`` are counted."""
    within = _within(len(shape), granularity)
    return tuple(size for i, size in enumerate(shape) if i not in within)


def group_size(shape: torch.Size | tuple[int, ...], granularity: str) -> int:
    """Weights in one group."""
    size = 1
    for i in _within(len(shape), granularity):
        size *= shape[i]
    return size


def sum_groups(values: torch.Tensor, granularity: str) -> torch.Tensor:
    """Add up over each group: ``(out, in, ...)`` to the shape of the groups."""
    within = _within(values.ndim, granularity)
    return values.sum(dim=within) if within else values


def any_in_group(values: torch.Tensor, granularity: str) -> torch.Tensor:
    """Whether any element of each group is true."""
    within = _within(values.ndim, granularity)
    return values.any(dim=within) if within else values


def expand_groups(
    groups: torch.Tensor, shape: torch.Size | tuple[int, ...], granularity: str
) -> torch.Tensor:
    """Give every element the value of its group: a view in ``shape``."""
    within = _within(len(shape), granularity)
    return groups.reshape([1 if i in within else size for i, size in enumerate(shape)]).expand(shape)


def _within(ndim: int, granularity: str) -> tuple[int, ...]:
    """The dimensions that run within a group."""
    if ndim < 2 or granularity == "element":
        return ()
    if granularity == "kernel":
        return tuple(range(2, ndim))
    if granularity == "filter":
        return tuple(range(1, ndim))
    return (0, *range(2, ndim))
