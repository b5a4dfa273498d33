"""The inner loops of :mod:`featherweight.coding.gaps`, compiled."""

from __future__ import annotations

from typing import Any

from numba import njit

#: Faults that :func:`join` finds.
PAST_END, USELESS_FILLER = 1, 2


@njit(cache=True, nogil=True)
def measure(indices: Any, remainders: Any, fillers: Any) -> None:
    """Count the gaps of all nonzero indices; see :class:`~featherweight.coding.gaps.GapStatistics`."""
    after_last, adjacent = 0, 0
    for i in range(indices.size):
        if indices[i] != 0:
            gap = i - after_last
            after_last = i + 1
            if gap == 0:  # counted in a register: in a dense array they are nearly all
                adjacent += 1
                continue
            remainders[gap & (remainders.size - 1)] += 1
            gap_bits = 1
            while gap >> gap_bits and gap_bits < fillers.size:
                fillers[gap_bits] += gap >> gap_bits
                gap_bits += 1
    remainders[0] += adjacent


@njit(cache=True, nogil=True)
def split(indices: Any, greatest: int, gaps: Any, codes: Any) -> None:
    """Fill in the gaps and codes of all entries."""
    k, after_last = 0, 0
    for i in range(indices.size):
        if indices[i] != 0:
            gap = i - after_last
            while gap > greatest:
                gaps[k], codes[k] = greatest, 0
                gap -= greatest + 1
                k += 1
            gaps[k], codes[k] = gap, indices[i]
            k += 1
            after_last = i + 1


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
