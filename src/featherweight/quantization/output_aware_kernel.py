"""The passes of :mod:`featherweight.quantization.output_aware` over every weight, compiled."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numba
import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray


@numba.njit(cache=True, nogil=True)
def descend(
    weights: NDArray[Any],
    labels: NDArray[Any],
    levels: NDArray[np.float64],
    offset: int,
    zeros_stay: bool,
    within: NDArray[np.float64],
    between: float,
    sweeps: int,
    costs: NDArray[np.float64],
) -> int:
    """Coordinate descent on eᵀ H e of every row, H = I ⊗ ``within`` + ``between`` · 11ᵀ.

    Labels change in place. With costs, it is on eᵀ H e and the costs of all labels.

    Args:
        weights: ``(rows, n)``.
        labels: of each weight's level, plus ``offset``, ``(rows, n)``.
        levels: ascending, ``(k,)``.
        offset: label of the first level.
        zeros_stay: leave weights of 0 alone.
        within: ``(b, b)``, b a divisor of n.
        between: at least 0.
        sweeps: over each row at most.
        costs: of each level, ``(k,)``; empty where none has any.

    Returns:
        How many times a label changed.
    """
    rows, n = weights.shape
    b, k = within.shape[0], levels.size
    moves = 0
    errors = np.empty(n, np.float64)
    for row in range(rows):
        total = 0.0
        for j in range(n):
            if zeros_stay and weights[row, j] == 0:
                errors[j] = 0.0
            else:
                errors[j] = levels[labels[row, j] - offset] - weights[row, j]
            total += errors[j]
        for _ in range(sweeps):
            before = moves
            for start in range(0, n, b):
                for p in range(b):
                    j = start + p
                    if zeros_stay and weights[row, j] == 0:
                        continue
                    own = within[p, p] + between
                    if own <= 0:
                        continue
                    pull = between * total
                    for q in range(b):
                        pull += within[p, q] * errors[start + q]
                    # Where this weight's level would best be, the others as they are.
                    old = labels[row, j] - offset
                    best = levels[old] - pull / own
                    label = old
                    if costs.size:
                        least = own * (levels[old] - best) ** 2 + costs[old]
                        for other in range(k):
                            cost = own * (levels[other] - best) ** 2 + costs[other]
                            if cost < least:
                                label, least = other, cost
                    else:
                        while label + 1 < k and levels[label + 1] - best < best - levels[label]:
                            label += 1
                        while label > 0 and best - levels[label - 1] < levels[label] - best:
                            label -= 1
                    if label != old:
                        change = levels[label] - levels[old]
                        errors[j] += change
                        total += change
                        labels[row, j] = label + offset
                        moves += 1
            if moves == before:
                break
    return moves


@numba.njit(cache=True, nogil=True)
def normal_equations(
    weights: NDArray[Any],
    labels: NDArray[Any],
    k: int,
    offset: int,
    zeros_stay: bool,
    within: NDArray[np.float64],
    between: float,
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """What the levels of least error solve while labels stay, ``(k, k)`` and ``(k,)``.

    Arguments as of :func:`descend`.
    """
    rows, n = weights.shape
    b = within.shape[0]
    matrix, right = np.zeros((k, k)), np.zeros(k)
    counts = np.empty(k)
    for row in range(rows):
        counts[:] = 0
        total = 0.0
        for start in range(0, n, b):
            for p in range(b):
                weight = weights[row, start + p]
                if zeros_stay and weight == 0:
                    continue
                first = labels[row, start + p] - offset
                counts[first] += 1
                total += weight
                for q in range(b):
                    other = weights[row, start + q]
                    if zeros_stay and other == 0:
                        continue
                    matrix[first, labels[row, start + q] - offset] += within[p, q]
                    right[first] += within[p, q] * other
        for first in range(k):
            if counts[first]:
                right[first] += between * counts[first] * total
                for second in range(k):
                    matrix[first, second] += between * counts[first] * counts[second]
    return matrix, right
