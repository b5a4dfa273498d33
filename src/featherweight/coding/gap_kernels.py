"""The inner loops of :mod:`featherweight.coding.gaps`, compiled.

Nonzero indices come at random, so a branch on them is foretold wrong time and again. Their positions are
therefore written down first, a block at a time, each over the one before if that was of a zero.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit

#: Faults that :func:`join` finds.
PAST_END, USELESS_FILLER = 1, 2

#: Indices whose positions are found at once; these fit the first-level cache.
_BLOCK_SIZE = 2048

_LANES = 4


@njit(inline="always")
def _find(indices: Any, start: int, stop: int, positions: Any) -> Any:
    """Write the positions of nonzero indices from ``start`` to ``stop``; return how many there are."""
    count = np.uint64(0)
    for i in range(start, stop):
        positions[count] = i
        count += np.uint64(indices[i] != 0)
    return np.int64(count)


@njit(cache=True, nogil=True)
def measure(indices: Any, remainders: Any, fillers: Any) -> None:
    """Count the gaps of all nonzero indices; see :class:`~featherweight.coding.gaps.GapStatistics`."""
    size = remainders.size
    wide = fillers.size - 1  # bits of a remainder
    # Several tables in turn: runs of one gap would otherwise wait for their own last increment.
    tables = np.zeros((_LANES, size), np.int64)
    positions = np.empty(_BLOCK_SIZE + 1, np.int64)
    after_last, quotients = np.int64(0), np.int64(0)
    for start in range(0, indices.size, _BLOCK_SIZE):
        count = _find(indices, start, min(start + _BLOCK_SIZE, indices.size), positions)
        for k in range(count):
            gap = positions[k] - after_last
            after_last = positions[k] + 1
            tables[k % _LANES, gap & (size - 1)] += 1
            quotients += gap >> wide
    for gap in range(size):
        for lane in range(_LANES):
            remainders[gap] += tables[lane, gap]
        for gap_bits in range(1, wide + 1):
            fillers[gap_bits] += remainders[gap] * (gap >> gap_bits)
    for gap_bits in range(1, wide + 1):
        fillers[gap_bits] += quotients << (wide - gap_bits)


@njit(cache=True, nogil=True)
def split(indices: Any, greatest: int, gaps: Any, codes: Any) -> None:
    """Fill in the gaps and codes of all entries."""
    positions = np.empty(_BLOCK_SIZE + 1, np.int64)
    at, after_last = np.int64(0), np.int64(0)
    for start in range(0, indices.size, _BLOCK_SIZE):
        count = _find(indices, start, min(start + _BLOCK_SIZE, indices.size), positions)
        for k in range(count):
            gap = positions[k] - after_last
            after_last = positions[k] + 1
            while gap > greatest:
                gaps[at], codes[at] = greatest, 0
                gap -= greatest + 1
                at += 1
            gaps[at], codes[at] = gap, indices[positions[k]]
            at += 1


@njit(cache=True, nogil=True)
def join(position: int, gaps: Any, codes: Any, greatest: int, values: Any, out: Any) -> int:
    """Put ``values[code]`` where the gaps say; return a fault, or 0.

    Args:
        position: of the entry before the first one here, -1 if there is none.
        gaps: of all entries.
        codes: of all entries.
        greatest: the gap of a filler.
        values: what to put for each code.
        out: where to put them; other elements stay as they are.
    """
    for i in range(gaps.size):
        gap = int(gaps[i])
        position += gap + 1
        if position >= out.size:
            return PAST_END
        code = codes[i]
        if code == 0:
            if gap != greatest:
                return USELESS_FILLER
        else:
            out[position] = values[code]
    return 0
