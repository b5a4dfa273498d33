"""Small steps of the ``context`` coder's kernel."""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit

from featherweight.coding.context_tables import COUNT_BITS, COUNT_LIMIT, LOG_SIZE, LOGARITHM, rates

_RATE_MEAN = rates(5.0)


@njit(cache=True, nogil=True)
def learn(state: Any, target: Any, rate: Any) -> Any:
    """Move a state towards 0 or to its top."""
    count: Any = np.int64(state) & COUNT_LIMIT
    p: Any = np.int64(state) >> COUNT_BITS
    p += ((target - p) * np.int64(rate[np.uint64(count)]) + 0x8000) >> 16
    p = max(p, 1)  # a state of 0 means one that was never used
    return np.uint32(p << COUNT_BITS | min(count + 1, COUNT_LIMIT))


@njit(cache=True, nogil=True)
def move_mean(mean: Any, seen: Any, size: Any, prior: Any) -> Any:
    """Move a mean towards a new size; the first time from the prior."""
    if seen == 0:
        mean = prior
    return mean + ((size - mean) * np.int64(_RATE_MEAN[seen]) >> 16)


@njit(cache=True, nogil=True)
def or_else(value: Any, otherwise: Any) -> Any:
    """A state or mean, or what stands in for it while it is 0, never used."""
    return value if value else otherwise


@njit(cache=True, nogil=True)
def side(level: Any) -> Any:
    """0, 1 or 2: below zero, zero, above."""
    return 1 + (level > 0) - (level < 0)


@njit(cache=True, nogil=True)
def aligned(level: Any, half: Any, tree: bool) -> Any:
    """How large a neighbour is, and whether it has the sign at hand: 0 to 6."""
    size = abs(level)
    if tree:
        size = (size >= 16) + (size >= 32) + (size >= 64)
    size = min(size, 3)
    return 3 + (size if (level > 0) == (half > 0) else -size)


@njit(cache=True, nogil=True)
def coarse(logit: Any) -> Any:
    """A logit in 17 steps of 3/4."""
    return min(max((logit + 8 * 192 + 96) // 192, 0), 16)


@njit(cache=True, nogil=True)
def log_mean(mean: Any) -> Any:
    """16 log2 of eight times a mean with 12 fraction bits."""
    return np.int64(LOGARITHM[min(LOG_SIZE - 1, mean >> 6)])


@njit(cache=True, nogil=True)
def quantise(logarithm: Any, step: int, most: int) -> Any:
    """A logarithm in equal steps, ``0 .. most``."""
    return min(max(logarithm // step, 0), most)


@njit(cache=True, nogil=True)
def carry(stream: Any, at: Any) -> None:
    """Add 1 to the bytes before ``at``. There is room: the whole interval stays below 1."""
    at -= 1
    while stream[at] == 255:
        stream[at] = 0
        at -= 1
    stream[at] += 1
