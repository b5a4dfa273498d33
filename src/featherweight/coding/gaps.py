"""Positions of the nonzero indices as relative indices (Han, Mao, Dally 2015, section 2).

An array is told by its *entries* in order, each a pair of a gap, the number of zeros skipped since the entry
before, and a code, the index itself. Gaps have r bits. Where more than 2ʳ - 1 zeros lie between two nonzero
indices, a *filler* is put in: an entry with the greatest gap and code 0. So entry ``i`` lies at position
``sum(gaps[: i + 1] + 1) - 1``, and zeros after the last nonzero index need no entry.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numba import njit

from featherweight.coding.symbols import symbol_dtype
from featherweight.errors import FormatError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from featherweight.coding.symbols import Symbols

#: Widest gap considered, in bits.
MAX_GAP_BITS = 12

_PAST_END, _USELESS_FILLER = 1, 2
_FAULTS = {
    _PAST_END: "has a gap that runs past the end of the tensor",
    _USELESS_FILLER: "has an entry without a weight that does not fill a gap",
}


@dataclass(frozen=True, eq=False)
class GapStatistics:
    """What every width of the gaps would cost, measured in one pass.

    Attributes:
        nonzero: number of nonzero indices.
        remainders: histogram of the true gaps modulo 2¹², ``(4096,)``.
        fillers: number of fillers that gaps of r bits need, ``(MAX_GAP_BITS + 1,)``; entry 0 is unused.
    """

    nonzero: int
    remainders: NDArray[np.int64]
    fillers: NDArray[np.int64]

    def stored(self, gap_bits: int) -> int:
        """Number of entries, fillers included."""
        return self.nonzero + int(self.fillers[gap_bits])

    def gap_counts(self, gap_bits: int) -> NDArray[np.int64]:
        """Histogram of the gaps of all entries, ``(2 ** gap_bits,)``."""
        counts: NDArray[np.int64] = self.remainders.reshape(-1, 1 << gap_bits).sum(axis=0)
        counts[-1] += self.fillers[gap_bits]
        return counts

    def widths(self) -> range:
        """Widths worth trying: a wider gap than the first that needs no filler only wastes bits."""
        enough = np.flatnonzero(self.fillers[1:] == 0)
        return range(1, 2 + int(enough[0]) if enough.size else MAX_GAP_BITS + 1)


def measure_gaps(indices: Symbols) -> GapStatistics:
    """Measure the gaps of a flat index array."""
    remainders = np.zeros(1 << MAX_GAP_BITS, np.int64)
    fillers = np.zeros(MAX_GAP_BITS + 1, np.int64)
    _measure(indices, remainders, fillers)
    return GapStatistics(int(remainders.sum()), remainders, fillers)


@njit(cache=True, nogil=True)
def _measure(indices: Symbols, remainders: Any, fillers: Any) -> None:
    after_last = 0
    for i in range(indices.size):
        if indices[i] != 0:
            gap = i - after_last
            remainders[gap & (remainders.size - 1)] += 1
            for gap_bits in range(1, fillers.size):
                fillers[gap_bits] += gap >> gap_bits
            after_last = i + 1


def split_entries(indices: Symbols, gap_bits: int, stored: int) -> tuple[Symbols, Symbols]:
    """Turn a flat index array into gaps and codes.

    Args:
        indices: 1-D.
        gap_bits: r, 1 to :data:`MAX_GAP_BITS`.
        stored: the number of entries, as :meth:`GapStatistics.stored` tells it.

    Returns:
        Gaps and codes, ``(stored,)`` each.
    """
    gaps = np.empty(stored, symbol_dtype(1 << gap_bits))
    codes = np.empty(stored, indices.dtype)
    _split(indices, (1 << gap_bits) - 1, gaps, codes)
    return gaps, codes


@njit(cache=True, nogil=True)
def _split(indices: Symbols, greatest: int, gaps: Symbols, codes: Symbols) -> None:
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


def join_entries(gaps: Symbols, codes: Symbols, gap_bits: int, numel: int) -> Symbols:
    """Turn gaps and codes back into a flat index array of ``numel`` elements.

    Raises:
        FormatError: if an entry lies past the end, or a filler does not fill the gap before another entry.
    """
    if codes.size and codes[-1] == 0:
        raise FormatError(_FAULTS[_USELESS_FILLER])
    indices = np.zeros(numel, codes.dtype)
    fault = _join(gaps, codes, (1 << gap_bits) - 1, indices)
    if fault:
        raise FormatError(_FAULTS[fault])
    return indices


@njit(cache=True, nogil=True)
def _join(gaps: Symbols, codes: Symbols, greatest: int, indices: Symbols) -> int:
    position = -1
    for i in range(gaps.size):
        gap = int(gaps[i])
        position += gap + 1
        if position >= indices.size:
            return _PAST_END
        if codes[i] == 0 and gap != greatest:
            return _USELESS_FILLER
        indices[position] = codes[i]
    return 0
