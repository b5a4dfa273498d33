"""Which channels of which layers can only leave a network together.

torch-pruning's dependency graph follows a layer's channels through the network: through batch
normalisation, additions and concatenations to the layers that read them.

Source: G. Fang et al., "DepGraph: Towards Any Structural Pruning" (2023).
"""

from __future__ import annotations

import re
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from featherweight.errors import RecipeError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

#: Where a layer has the channels of a group.
OUT, IN, EACH = "out", "in", "each"

_CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)

#: Operations of autograd that keep channels apart and where they are; what else there is may mix them.
_KEEPING_APART = re.compile(
    r"(Relu|LeakyRelu|Elu|Gelu|Silu|Mish|Hardswish|Hardsigmoid|Hardtanh|Sigmoid|Tanh|Softplus|Clamp(Min|Max)?"
    r"|Add|Sub|Mul|Div|Neg|Abs|Pow|Sqrt|Exp|Mean|NativeDropout|T|(Mkldnn)?(Adaptive)?AvgPool[23]D"
    r"|MaxPool[23]DWithIndices|Upsample(Nearest|Bilinear)2D|Squeeze|Unsqueeze|(Unsafe)?View|ReshapeAlias"
    r"|Clone|Alias|ToCopy|Cat|ConstantPadNd|Slice)Backward\d*"
)


@dataclass(frozen=True)
class Member:
    """One layer's part in a group.

    Attributes:
        name: of the layer in the network.
        layer: a convolution, linear layer, batch normalisation or PReLU.
        kind: ``out`` where the layer makes the channels, ``in`` where it reads them, ``each`` where it
            treats every channel by itself (normalisation, depthwise convolutions).
        positions: for each channel of the group, which of the layer's channels or features it is: one,
            or several after flattening, or none.
    """

    name: str
    layer: nn.Module
    kind: str
    positions: tuple[tuple[int, ...], ...]

    def at(self, channels: Sequence[int]) -> list[int]:
        """The layer's own numbers of some channels of the group."""
        return [position for channel in channels for position in self.positions[channel]]


@dataclass(frozen=True)
class ChannelGroup:
    """Channels that many layers have in common, as a residual stage does.

    Attributes:
        name: of the layer that was asked for.
        channels: how many there are.
        members: the layers, that one first.
        blocks: for each channel the block that it is in. From each block as many channels have to leave,
            because grouped convolutions need parts of one size.
    """

    name: str
    channels: int
    members: tuple[Member, ...]
    blocks: tuple[int, ...]

    @property
    def producers(self) -> list[Member]:
        """The layers whose filters make the channels."""
        return [member for member in self.members if member.kind == OUT]

    @property
    def successors(self) -> list[Member]:
        """The layers that read the channels."""
        return [member for member in self.members if member.kind == IN]


def channel_group(model: nn.Module, name: str, example: Tensor) -> ChannelGroup:
    """Find all that the output channels of a layer depend on.

    Args:
        model: the network; it is run once.
        name: of a convolution or linear layer.
        example: a batch of inputs.

    Raises:
        RecipeError: where there is no such layer, or its channels cannot be removed; names it and why.
    """
    layers = dict(model.named_modules())
    layer = layers.get(name)
    if not isinstance(layer, (*_CONVOLUTIONS, nn.Linear)):
        able = [n for n, m in layers.items() if isinstance(m, (*_CONVOLUTIONS, nn.Linear))]
        what = f"is a {type(layer).__name__}" if layer is not None else "is no layer of the network"
        raise RecipeError(
            f"{name}: {what}; channels are pruned from convolutions and linear layers: {_some(able)}"
        )
    names = {module: n for n, module in layers.items()}
    with _differentiable(model):
        items = _dependent(model, layer, name, example)
        members = [m for m in (_member(name, item, names) for item in items) if m is not None]
    if not any(member.kind == IN for member in members):
        raise RecipeError(f"{name}: cannot be pruned by channel: no layer reads its output")
    channels = _out_channels(layer)
    return ChannelGroup(name, channels, tuple(members), _blocks(name, channels, members))


@dataclass(frozen=True)
class _Item:
    """What torch-pruning says of one node: the node, whether its outputs leave, and which."""

    node: Any
    is_output: bool
    indices: Sequence[int]
    roots: Sequence[int]
    channels: int


def _dependent(model: nn.Module, layer: nn.Module, name: str, example: Tensor) -> list[_Item]:
    # Imported here, as most uses of the library do without it.
    import torch_pruning

    try:
        graph = torch_pruning.DependencyGraph().build_dependency(model, (example,), verbose=False)
        channels = _out_channels(layer)
        handler = graph.get_pruner_of_module(layer).prune_out_channels
        group = graph.get_pruning_group(layer, handler, list(range(channels)))
    except (AttributeError, AssertionError, IndexError, KeyError, TypeError, ValueError) as error:
        raise RecipeError(
            f"{name}: cannot be pruned by channel: the network's graph cannot be followed: {error}"
        ) from error
    return [
        _Item(
            item.dep.target,
            graph.is_out_channel_pruning_fn(item.dep.handler),
            item.idxs,
            item.root_idxs,
            channels,
        )
        for item in group
    ]


def _member(name: str, item: _Item, names: dict[nn.Module, str]) -> Member | None:
    """A layer's part in the group of layer ``name``; None for an operation without weights."""
    module = item.node.module
    if module not in names:
        _check_operation(name, item.node)
        return None
    each = isinstance(module, (*_NORMS, nn.PReLU)) or _is_depthwise(module)
    if not each and not isinstance(module, (*_CONVOLUTIONS, nn.Linear)):
        raise RecipeError(
            f"{name}: cannot be pruned by channel: its channels go through {names[module]}, "
            f"{type(module).__name__}, which mixes them"
        )
    if isinstance(module, nn.PReLU) and module.num_parameters == 1:
        return None
    positions: list[list[int]] = [[] for _ in range(item.channels)]
    for index, root in zip(item.indices, item.roots, strict=True):
        positions[root].append(index)
    kind = EACH if each else OUT if item.is_output else IN
    return Member(names[module], module, kind, tuple(map(tuple, positions)))


def _check_operation(name: str, node: Any) -> None:
    """Refuse operations that may move or mix channels."""
    operation = node.grad_fn.name() if hasattr(node.grad_fn, "name") else type(node.module).__name__
    known = _KEEPING_APART.fullmatch(operation) is not None
    if "Output" in type(node.module).__name__:
        raise RecipeError(f"{name}: cannot be pruned by channel: its channels are an output of the network")
    if known and hasattr(node.grad_fn, "_saved_pad"):
        known = not any(node.grad_fn._saved_pad[4:])  # last dimension first: height and width of images
    if not known:
        raise RecipeError(
            f"{name}: cannot be pruned by channel: its channels go through {operation}, "
            f"after which they cannot be told apart"
        )


def _blocks(name: str, channels: int, members: list[Member]) -> tuple[int, ...]:
    """Channels in the same part of every grouped convolution are in one block."""
    labels: list[tuple[int, ...]] = [() for _ in range(channels)]
    for member in members:
        groups = getattr(member.layer, "groups", 1)
        if member.kind == EACH or groups == 1:
            continue
        total = member.layer.out_channels if member.kind == OUT else member.layer.in_channels
        size = int(total) // int(groups)  # type: ignore[arg-type]
        for channel, positions in enumerate(member.positions):
            labels[channel] += tuple(position // size for position in positions)
    distinct = sorted(set(labels))
    if len({labels.count(label) for label in distinct}) > 1:
        raise RecipeError(
            f"{name}: cannot be pruned by channel: grouped convolutions divide its channels unevenly"
        )
    return tuple(distinct.index(label) for label in labels)


def _is_depthwise(module: nn.Module) -> bool:
    return (
        isinstance(module, _CONVOLUTIONS)
        and module.groups > 1
        and module.groups == module.in_channels == module.out_channels
    )


def _out_channels(layer: nn.Module) -> int:
    return int(layer.out_features if isinstance(layer, nn.Linear) else layer.out_channels)  # type: ignore[arg-type]


@contextmanager
def _differentiable(model: nn.Module) -> Iterator[None]:
    """The graph is autograd's: every parameter takes part for a moment, in evaluation mode."""
    training = {module: module.training for module in model.modules()}
    frozen = [parameter for parameter in model.parameters() if not parameter.requires_grad]
    for parameter in frozen:
        parameter.requires_grad_(True)
    model.eval()
    try:
        with torch.enable_grad():
            yield
    finally:
        for parameter in frozen:
            parameter.requires_grad_(False)
        for module, mode in training.items():
            module.training = mode


def _some(names: list[str], most: int = 8) -> str:
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")
