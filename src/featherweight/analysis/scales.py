"""Places on the axes of figures: accuracy by its error, sparsity by what is left, ticks, labels apart."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

#: Accuracies at which an axis may have a tick, in percent.
_ACCURACIES = (0, 50, 80, 90, 95, 98, 99, 99.5, 99.8, 99.9)
_SPARSITIES = (0, 0.3, 0.5, 0.7, 0.8, 0.9, 0.95, 0.98, 0.99, 0.995, 0.999)
#: Where those give fewer ticks than are wanted.
_FINER_ACCURACIES = (*range(0, 98, 2), 97, 98, 98.5, 98.8, 99, 99.2, 99.4, 99.5, 99.6, 99.7, 99.8, 99.9)
_TICKS_WANTED = 4
_LEAST_TICK_GAP = 0.055  # of the axis
_SMALLEST_ERROR = 0.02  # percent


def accuracy_place(accuracy: float) -> float:
    """The place of an accuracy (percent) on an axis on which the error is logarithmic."""
    return -math.log10(max(100.0 - accuracy, _SMALLEST_ERROR))


def sparsity_place(sparsity: float) -> float:
    """The place of a sparsity (fraction) on an axis on which what is left is logarithmic."""
    return -math.log10(1.0 - sparsity)


def accuracy_ticks(low: float, high: float, gap: float = _LEAST_TICK_GAP) -> list[tuple[float, str]]:
    """Places between two others and the accuracies there, in percent."""
    in_sight = [a for a in _ACCURACIES if low <= accuracy_place(a) <= high]
    accuracies = _ACCURACIES if len(in_sight) >= _TICKS_WANTED else sorted(set(_FINER_ACCURACIES))
    return _ticks(accuracies, accuracy_place, low, high, gap, lambda a: f"{a:g}")


def sparsity_ticks(low: float, high: float, gap: float = _LEAST_TICK_GAP) -> list[tuple[float, str]]:
    """Places between two others and the sparsities there, in percent."""
    return _ticks(_SPARSITIES, sparsity_place, low, high, gap, lambda s: f"{100 * s:g}")


def _ticks(
    candidates: Sequence[float],
    place: Callable[[float], float],
    low: float,
    high: float,
    gap: float,
    write: Callable[[float], str],
) -> list[tuple[float, str]]:
    """Those of the candidates that are in sight and not too near to the one before."""
    chosen: list[tuple[float, str]] = []
    for candidate in candidates:
        at = place(candidate)
        if low <= at <= high and (not chosen or at - chosen[-1][0] >= gap * (high - low)):
            chosen.append((at, write(candidate)))
    return chosen


def spread(wanted: Sequence[float], gap: float, low: float, high: float) -> list[float]:
    """Move positions apart by at least ``gap``, each as little as can be, within the limits where they fit.

    Args:
        wanted: rising.
        gap: the least distance between neighbours.
        low: least position.
        high: greatest; exceeded where there are too many for the space.

    Returns:
        Rising positions: groups that touch are centred on what their members wanted.
    """
    groups: list[tuple[float, int]] = []  # centre, members
    for position in wanted:
        centre, members = _clamped(position, 1, gap, low, high), 1
        while groups and centre - groups[-1][0] < gap * (members + groups[-1][1]) / 2:
            other, others = groups.pop()
            centre = (centre * members + other * others) / (members + others)
            members += others
            centre = _clamped(centre, members, gap, low, high)
        groups.append((centre, members))
    return [c + gap * (i - (n - 1) / 2) for c, n in groups for i in range(n)]


def _clamped(centre: float, members: int, gap: float, low: float, high: float) -> float:
    half = gap * (members - 1) / 2
    return max(min(centre, high - half), low + half)
