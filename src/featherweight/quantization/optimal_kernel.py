"""The table of the optimal k-means: each row by divide and conquer, compiled."""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit


@njit(cache=True, nogil=True)
def _cost(prefixes: Any, begin: Any, end: Any) -> Any:
    """Squared error of the points ``begin … end − 1`` about their mean."""
    mass = prefixes[0, end] - prefixes[0, begin]
    first = prefixes[1, end] - prefixes[1, begin]
    return max(prefixes[2, end] - prefixes[2, begin] - first * first / mass, 0.0)


@njit(cache=True, nogil=True)
def fill_table(prefixes: Any, k: int) -> Any:
    """Where the last cluster begins, for every number of clusters and of points.

    Args:
        prefixes: ``(3, n + 1)``, sums over the first points of mass, mass · value, mass · value².
        k: clusters, at most n.

    Returns:
        int32 ``(k, n)``: entry ``[j, i]`` is the first point of the last of j + 1 clusters of the points
        ``0 … i`` in the solution of least cost.
    """
    n = prefixes.shape[1] - 1
    begins = np.zeros((k, n), np.int32)
    before, now = np.empty(n), np.empty(n)
    for i in range(n):
        before[i] = _cost(prefixes, 0, i + 1)
    stack = np.empty((2 * 64, 4), np.int64)
    for row in range(1, k):
        now[:row] = 0.0
        for i in range(row):
            begins[row, i] = i
        # Points low … high, whose last cluster begins within first … last.
        depth = 1
        stack[0, 0], stack[0, 1], stack[0, 2], stack[0, 3] = row, n - 1, row, n - 1
        while depth:
            depth -= 1
            low, high, first, last = stack[depth, 0], stack[depth, 1], stack[depth, 2], stack[depth, 3]
            middle = (low + high) // 2
            best, at = np.inf, first
            for begin in range(first, min(last, middle) + 1):
                cost = before[begin - 1] + _cost(prefixes, begin, middle + 1)
                if cost < best:
                    best, at = cost, begin
            now[middle] = best
            begins[row, middle] = at
            if middle < high:
                stack[depth, 0], stack[depth, 1], stack[depth, 2], stack[depth, 3] = (
                    middle + 1,
                    high,
                    at,
                    last,
                )
                depth += 1
            if low < middle:
                stack[depth, 0], stack[depth, 1], stack[depth, 2], stack[depth, 3] = (
                    low,
                    middle - 1,
                    first,
                    at,
                )
                depth += 1
        before, now = now, before
    return begins
