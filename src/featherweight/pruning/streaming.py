"""Thresholds over more weights than fit into memory, found in a few passes over one tensor after another.

A pass asks for every tensor once, in order, and looks at it slice by slice; what it keeps is bounded.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import torch

#: Makes the scores of a tensor when asked, the same every time.
Scores: TypeAlias = Callable[[str], torch.Tensor]

#: Elements looked at together.
_SLICE = 1 << 20

#: Scores around the border that are kept to be sorted, 8 bytes each.
_MOST_HELD = 1 << 20

#: A pass that meets more of them narrows the window around the border by so many bits.
_BITS_A_PASS = 16
_KEY_BITS = 64


def lowest_by_tensor(names: Sequence[str], scores: Scores, count: int) -> dict[str, int]:
    """How many of each tensor's scores are among the ``count`` lowest of all.

    Exactly, as :func:`featherweight.pruning.prune_lowest` chooses: of equal scores at the border, those that
    come first are among them. A score is looked at as an integer in the same order; a histogram of its
    leading bits finds the window in which the border lies, until what is in the window can be sorted.

    Args:
        names: the tensors in order.
        scores: finite or infinite, of any float type.
        count: how many; all there are if there are fewer.

    Returns:
        Numbers of scores by name, which add up to ``count``.
    """
    if count <= 0 or not names:
        return dict.fromkeys(names, 0)
    first, bits = -(1 << _KEY_BITS - 1), _KEY_BITS
    while True:
        window = _look(names, scores, first, bits)
        wanted = count - sum(window.below)
        if window.held is not None or bits == 0:
            break
        bits -= _BITS_A_PASS
        reached = torch.cumsum(window.histogram, 0)
        wanted = min(wanted, int(reached[-1]))
        first += int(torch.searchsorted(reached, wanted)) << bits
    # Where they are not held, all in the window are equal.
    taken = _share_out(window.inside, wanted) if window.held is None else _lowest_of(window.held, wanted)
    return {name: below + more for name, below, more in zip(names, window.below, taken, strict=True)}


@dataclass
class _Window:
    """What a pass finds in a window of keys, by tensor.

    Attributes:
        below: keys below the window.
        inside: keys in it.
        histogram: of the leading bits in the window, ``(2 ** _BITS_A_PASS,)``.
        held: all keys in the window, ``None`` where they are too many.
    """

    below: list[int]
    inside: list[int]
    histogram: torch.Tensor
    held: list[torch.Tensor] | None


def _look(names: Sequence[str], scores: Scores, first: int, bits: int) -> _Window:
    """One pass over all tensors, for the window of the ``2 ** bits`` keys from ``first`` on."""
    window = _Window([], [], torch.zeros(1 << _BITS_A_PASS, dtype=torch.int64), [])
    last, shift = first + (1 << bits) - 1, bits - _BITS_A_PASS
    for name in names:
        below, found = 0, [torch.empty(0, dtype=torch.int64)]
        inside = 0
        for keys in _sortable(scores(name)):
            below += int((keys < first).sum())
            chosen = keys[(keys >= first) & (keys <= last)]
            inside += chosen.numel()
            if bits:
                bins = (chosen >> shift) - (first >> shift)
                window.histogram += torch.bincount(bins, minlength=1 << _BITS_A_PASS)
            if sum(window.inside) + inside > _MOST_HELD:
                window.held = None
            if window.held is not None:
                found.append(chosen)
        window.below.append(below)
        window.inside.append(inside)
        if window.held is not None:
            window.held.append(torch.cat(found))
    return window


def _sortable(scores: torch.Tensor) -> Iterator[torch.Tensor]:
    """Scores, slice by slice, as int64 in the same order: of a negative float all bits but the sign turn."""
    for part in torch.split(scores.reshape(-1), _SLICE):
        bits = (part.double().cpu() + 0.0).view(torch.int64)  # -0.0 + 0.0 is 0.0
        yield bits ^ ((bits >> 63) & torch.iinfo(torch.int64).max)


def _lowest_of(held: list[torch.Tensor], wanted: int) -> list[int]:
    """How many of each tensor's keys are among the ``wanted`` lowest."""
    everything = torch.cat(held)
    wanted = min(wanted, everything.numel())
    if wanted <= 0:
        return [0] * len(held)
    border = everything.kthvalue(wanted).values
    lower = [int((keys < border).sum()) for keys in held]
    ties = _share_out([int((keys == border).sum()) for keys in held], wanted - sum(lower))
    return [a + b for a, b in zip(lower, ties, strict=True)]


def _share_out(sizes: list[int], wanted: int) -> list[int]:
    """``wanted`` things taken from the front."""
    taken = []
    for size in sizes:
        taken.append(min(size, wanted))
        wanted -= taken[-1]
    return taken


def pooled_std(parts: Callable[[], Iterable[torch.Tensor]]) -> float:
    """The standard deviation of all the elements of some tensors together, divided by n; 0.0 of none.

    Args:
        parts: makes the tensors one after another; asked twice.
    """
    total, number = 0.0, 0
    for part in _slices(parts()):
        total += float(part.sum())
        number += part.numel()
    if not number:
        return 0.0
    mean = total / number
    squares = sum(float((part - mean).square().sum()) for part in _slices(parts()))
    return float((squares / number) ** 0.5)


def _slices(parts: Iterable[torch.Tensor]) -> Iterator[torch.Tensor]:
    for part in parts:
        for piece in torch.split(part.detach().reshape(-1), _SLICE):
            yield piece.double()
