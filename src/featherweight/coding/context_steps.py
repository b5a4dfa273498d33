"""Small steps of the ``context`` coder's kernel."""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit

from featherweight.coding.context_tables import COUNT_BITS, COUNT_LIMIT, LOG_SIZE, LOGARITHM, RATE


@njit(cache=True, nogil=True, forceinline=True)
def move_mean(state: Any, size: Any) -> Any:
    """Move a mean, kept with its count as a probability is, towards a new size."""
    mean: Any = state >> COUNT_BITS
    count: Any = state & COUNT_LIMIT
    mean += (size - mean) * np.int64(RATE[np.uint64(count)]) >> 16
    return mean << COUNT_BITS | min(count + 1, COUNT_LIMIT)


@njit(cache=True, nogil=True, forceinline=True)
def new_mean(state: Any) -> Any:
    """A mean that begins where another one is."""
    return state >> COUNT_BITS << COUNT_BITS


@njit(cache=True, nogil=True, forceinline=True)
def log_eighths(eighths: Any) -> Any:
    """16 log2 of a number of eighths."""
    return np.int64(LOGARITHM[np.uint64(min(eighths, LOG_SIZE - 1))])


@njit(cache=True, nogil=True, forceinline=True)
def log_mean(state: Any) -> Any:
    """16 log2 of eight times a mean with 12 fraction bits."""
    return log_eighths(state >> (COUNT_BITS + 6))


@njit(cache=True, nogil=True, forceinline=True)
def side(level: Any) -> Any:
    """0, 1 or 2: below zero, zero, above."""
    return 1 + np.int64(level > 0) - np.int64(level < 0)


@njit(cache=True, nogil=True, forceinline=True)
def aligned(level: Any, positive: Any, by_digits: bool) -> Any:
    """How large a neighbour is, and whether it has the sign at hand: 0 to 6."""
    size: Any = abs(level)
    if by_digits:
        size = np.int64(size >= 16) + np.int64(size >= 32) + np.int64(size >= 64)
    size = min(size, 3)
    return 3 + (size if (level > 0) == (positive > 0) else -size)


@njit(cache=True, nogil=True, forceinline=True)
def limit(value: Any, least: int, most: int) -> Any:
    """A value, or the nearest one in ``least .. most``."""
    return min(max(value, least), most)
