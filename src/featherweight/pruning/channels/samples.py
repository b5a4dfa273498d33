"""What the layers that read a group's channels see: sampled rows of their inputs, and the Gram matrix."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from featherweight.errors import RecipeError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from featherweight.pruning.channels.groups import ChannelGroup, Member

#: Outputs of a layer over which contributions are summed: of layers with more, a random choice.
MOST_OUTPUTS = 512

#: Features whose products are held at a time, so that memory stays bounded.
_CHUNK = 1024


@dataclass(frozen=True)
class Sample:
    """Inputs of one layer, each row what one output position sees.

    Attributes:
        member: the layer in its group.
        rows: ``(N, F)`` float32; F is in_channels · kernel size of a convolution, in_features else.
        kernel: features of one input channel, in a run.
    """

    member: Member
    rows: Tensor
    kernel: int

    @property
    def weight(self) -> Tensor:
        """The layer's weights as ``(out, F)``; of a grouped convolution with the zeros between its parts."""
        weight = self.member.layer.weight
        assert isinstance(weight, Tensor)  # noqa: S101
        flat = weight.detach().flatten(1)
        parts = flat.chunk(parts_of(self.member.layer))
        return flat if len(parts) == 1 else torch.block_diag(*parts)  # type: ignore[no-untyped-call]

    def features(self, channels: Sequence[int]) -> NDArray[np.int64]:
        """The columns of ``rows`` that belong to some channels of the group, channel by channel."""
        positions = np.asarray(self.member.at(channels), dtype=np.int64)
        return (positions[:, None] * self.kernel + np.arange(self.kernel)).reshape(-1)


def parts_of(layer: nn.Module) -> int:
    """Groups of a convolution; 1 of any other layer."""
    return int(getattr(layer, "groups", 1))


class _Enough(Exception):  # noqa: N818  (no error)
    """All layers have been seen; the rest of the network need not run."""


@torch.no_grad()
def collect(
    model: nn.Module, group: ChannelGroup, batches: Sequence[Tensor], rows: int, seed: int
) -> list[Sample]:
    """Run a network over batches and keep what the group's successors see.

    Args:
        model: in evaluation mode.
        group: its channels.
        batches: inputs.
        rows: at most about so many rows for each layer, spread over all inputs; positions drawn at random.
        seed: of the draw.

    Raises:
        RecipeError: where a successor is a layer whose inputs cannot be taken apart.
    """
    images = sum(len(batch) for batch in batches)
    each = max(1, -(-rows // images))
    found: dict[str, list[Tensor]] = {member.name: [] for member in group.successors}
    generator = torch.Generator().manual_seed(seed)
    waiting: set[str] = set()

    def look(member: Member, inputs: Tensor) -> None:
        found[member.name].append(_rows(member, inputs, each, generator))
        waiting.discard(member.name)
        if not waiting:
            raise _Enough

    hooks = [
        member.layer.register_forward_pre_hook(lambda _, inputs, member=member: look(member, inputs[0]))
        for member in group.successors
    ]
    try:
        for batch in batches:
            waiting.update(found)
            try:
                model(batch)
            except _Enough:
                continue
    finally:
        for hook in hooks:
            hook.remove()
    return [Sample(m, torch.cat(found[m.name]), _kernel(m.layer)) for m in group.successors]


def _rows(member: Member, inputs: Tensor, each: int, generator: torch.Generator) -> Tensor:
    """Up to ``each`` rows an image: ``(B · each, F)``."""
    layer = member.layer
    if isinstance(layer, nn.Linear):
        return inputs.reshape(-1, inputs.shape[-1]).float()
    if not isinstance(layer, nn.Conv1d | nn.Conv2d):
        raise RecipeError(
            f"{member.name}: inputs of a {type(layer).__name__} cannot be sampled; "
            f"prune by random or by a norm, and without reconstruction"
        )
    padding = layer._reversed_padding_repeated_twice
    mode = "constant" if layer.padding_mode == "zeros" else layer.padding_mode
    padded = F.pad(inputs.float(), padding, mode=mode)
    if isinstance(layer, nn.Conv1d):
        padded = padded[:, :, None]  # (B, C, 1, L)
    kernel, stride, dilation = (_two(v) for v in (layer.kernel_size, layer.stride, layer.dilation))
    spans = [dilation[d] * (kernel[d] - 1) + 1 for d in range(2)]
    steps = [(padded.shape[2 + d] - spans[d]) // stride[d] + 1 for d in range(2)]
    # The upper left pixels of random windows, (P,) each.
    starts = [stride[d] * torch.randint(steps[d], (each,), generator=generator) for d in range(2)]
    down = starts[0][:, None] + dilation[0] * torch.arange(kernel[0])  # (P, kh)
    across = starts[1][:, None] + dilation[1] * torch.arange(kernel[1])  # (P, kw)
    windows = padded[:, :, down[:, :, None], across[:, None, :]]  # (B, C, P, kh, kw)
    return windows.transpose(1, 2).flatten(0, 1).flatten(1)  # (B · P, C · kh · kw)


def _two(values: tuple[int, ...]) -> tuple[int, int]:
    return (1, values[0]) if len(values) == 1 else (values[0], values[1])


def _kernel(layer: nn.Module) -> int:
    return int(np.prod(layer.kernel_size)) if hasattr(layer, "kernel_size") else 1  # type: ignore[arg-type]


def gram(samples: Sequence[Sample], channels: int, *, seed: int = 0) -> NDArray[np.float64]:
    """G_cd = ⟨Z_c, Z_d⟩, summed over the layers that read the channels.

    With A = XᵀX and B = WᵀW, G_cd is the sum of A ∘ B over the features of c and d, so that Z, which has a
    column for every sample and output, is never made.

    Args:
        samples: the layers' inputs.
        channels: C, how many channels the group has.
        seed: of the choice of outputs where a layer has more than :data:`MOST_OUTPUTS`.

    Returns:
        ``(C, C)``, symmetric.
    """
    total = np.zeros((channels, channels))
    for sample in samples:
        weight = sample.weight.double().cpu().numpy()
        if len(weight) > MOST_OUTPUTS:
            weight = weight[np.random.RandomState(seed).permutation(len(weight))[:MOST_OUTPUTS]]
        present = [c for c in range(channels) if sample.member.positions[c]]
        columns = sample.features(present)
        size = len(columns) // len(present)  # features of one channel, the same for all
        X = sample.rows.cpu().numpy()[:, columns].astype(np.float64)
        W = weight[:, columns]
        step = max(1, _CHUNK // size)
        for first in range(0, len(present), step):
            some = slice(first * size, (first + step) * size)
            rest = slice(first * size, None)  # the other half of G is the same
            products = (X[:, some].T @ X[:, rest]) * (W[:, some].T @ W[:, rest])
            number = products.shape[0] // size
            part = products.reshape(number, size, -1, size).sum(axis=(1, 3))
            rows, others = np.ix_(present[first : first + step], present[first:])
            total[rows, others] += part
            later = part[:, number:]
            total[np.ix_(present[first + step :], present[first : first + step])] += later.T
    return total
