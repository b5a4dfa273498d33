"""Bits shared out among layers: of each layer one candidate, at least cost, within so many bytes.

With candidates (bytes, cost) for each layer this is the multiple-choice knapsack problem. Its Lagrangian
relaxation (Y. Shoham & A. Gersho, "Efficient bit allocation for an arbitrary set of quantizers", 1988) finds
the points of the convex hull alone; a few dozen layers are few enough for dynamic programming, which is exact
(P. Sinha & A. Zoltners, "The multiple-choice knapsack problem", 1979, for the problem).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

#: Bytes beyond the smallest candidates are counted in at most so many cells.
MAX_CELLS = 1 << 17


def allocate(
    sizes: Sequence[Sequence[int]],
    costs: Sequence[Sequence[float]],
    capacity: int,
    max_cells: int = MAX_CELLS,
) -> list[int] | None:
    """Choose one candidate of each layer: the least total cost whose bytes fit.

    Exact where the capacity beyond the smallest candidates is at most ``max_cells`` bytes. Else bytes are
    rounded up to cells, so that the choice always fits, and what rounding leaves over is spent step by step.

    Args:
        sizes: bytes, of each layer's candidates; any order.
        costs: of the same candidates, finite.
        capacity: bytes for all layers together.
        max_cells: how finely bytes are counted.

    Returns:
        A number of a candidate for each layer, or ``None`` where not even the smallest fit.
    """
    least = [min(layer) for layer in sizes]
    free = capacity - sum(least)
    if free < 0:
        return None
    extra = [np.asarray(layer) - low for layer, low in zip(sizes, least, strict=True)]
    free = min(free, sum(int(layer.max()) for layer in extra))
    unit = max(1, -(-free // max_cells))
    cells = free // unit
    chosen = _exact([-(-layer // unit) for layer in extra], costs, cells)
    if unit > 1:
        _spend(chosen, extra, costs, free)
    return chosen


def _exact(extra: Sequence[NDArray[np.int64]], costs: Sequence[Sequence[float]], cells: int) -> list[int]:
    """By dynamic programming: ``best[c]`` is the least cost of the layers so far within ``c`` cells."""
    best = np.zeros(cells + 1)
    choices = []
    for size, cost in zip(extra, costs, strict=True):
        new = np.full(cells + 1, np.inf)
        choice = np.zeros(cells + 1, np.uint8)
        for i in np.argsort(size, kind="stable"):
            if size[i] > cells:
                continue
            with_it = best[: cells + 1 - size[i]] + cost[i]
            better = with_it < new[size[i] :]
            new[size[i] :][better] = with_it[better]
            choice[size[i] :][better] = i
        best = new
        choices.append(choice)
    chosen, left = [], cells
    for size, choice in zip(reversed(extra), reversed(choices), strict=True):
        chosen.append(int(choice[left]))
        left -= int(size[chosen[-1]])
    return chosen[::-1]


def _spend(
    chosen: list[int], extra: Sequence[NDArray[np.int64]], costs: Sequence[Sequence[float]], free: int
) -> None:
    """Change one layer at a time for the better, as long as its bytes fit."""
    while True:
        left = free - sum(int(size[i]) for size, i in zip(extra, chosen, strict=True))
        gains = [
            (cost[chosen[layer]] - cost[i], layer, i)
            for layer, (size, cost) in enumerate(zip(extra, costs, strict=True))
            for i in range(len(cost))
            if size[i] - size[chosen[layer]] <= left and cost[i] < cost[chosen[layer]]
        ]
        if not gains:
            return
        _, layer, i = max(gains)
        chosen[layer] = i
